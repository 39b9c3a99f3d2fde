"""What a killed writer leaves is cleared by the next one, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.bundles.tiny import make_bundle

from hsnet_trt.errors import BundleError
from hsnet_trt.runtime.bundle import Bundle, scratch, write_bundle

WRITER = """
import sys
from hsnet_trt.runtime.bundle import write_bundle
with write_bundle(sys.argv[1]) as writer:
    writer.add("graphs/x", b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def start_writer(target: Path) -> subprocess.Popen:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout.readline() == b"writing\n"
    return child


def kill(child: subprocess.Popen) -> None:
    child.send_signal(signal.SIGKILL)
    child.communicate()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_killed_writer_leaves_nothing_for_long(tmp_path):
    target = make_bundle(tmp_path / "bundle")
    before = (target / "bundle.json").read_bytes()
    kill(start_writer(target))
    assert (target / "bundle.json").read_bytes() == before
    assert len(names(tmp_path)) == 3
    make_bundle(target)
    assert names(tmp_path) == {"bundle"}


def test_a_living_writer_is_left_alone(tmp_path):
    target = tmp_path / "bundle"
    child = start_writer(target)
    try:
        written = names(tmp_path)
        make_bundle(target)
        assert names(tmp_path) == written | {"bundle"}
    finally:
        kill(child)
    make_bundle(target)
    assert names(tmp_path) == {"bundle"}


def test_nothing_else_is_cleared(tmp_path):
    """Not another bundle's scratch, not a folder that only looks like it, not what a link names."""
    other = start_writer(tmp_path / "bundle.two")
    kill(other)
    kept = names(tmp_path)
    for name in (".bundle.backup12", ".bundle.0123456789abcdef", "precious"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / ".bundle.fedcba9876543210.lock").symlink_to(tmp_path / "precious" / "file")
    (tmp_path / ".bundle.fedcba9876543210").symlink_to(tmp_path / "precious")
    kept = names(tmp_path)
    make_bundle(tmp_path / "bundle")
    assert names(tmp_path) == kept | {"bundle"}
    assert (tmp_path / "precious" / "file").exists()


def test_every_moment_of_replacing_has_a_whole_bundle(tmp_path, monkeypatch):
    """A reader that opens the bundle at any step of the file system's sees one."""
    target = make_bundle(tmp_path / "bundle")
    seen = []

    def watched(event: str, arguments: tuple) -> None:
        if watching and event in ("os.rename", "os.rmdir", "os.remove", "shutil.rmtree"):
            watching.clear()
            Bundle.open(target).check()
            seen.append(event)
            watching.append(True)

    watching: list = []
    sys.addaudithook(watched)
    watching.append(True)
    try:
        make_bundle(target, weights="cd" * 32)
    finally:
        watching.clear()
    assert seen
    assert Bundle.open(target).manifest.model.weights_sha256 == "cd" * 32


def test_where_folders_cannot_be_exchanged_the_old_one_is_put_back(tmp_path, monkeypatch):
    target = make_bundle(tmp_path / "bundle")
    before = (target / "bundle.json").read_bytes()
    monkeypatch.setattr(scratch, "_exchange", lambda one, other: False)
    make_bundle(target)
    assert names(tmp_path) == {"bundle"}

    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[2]);"
        "from hsnet_trt.runtime.bundle import scratch;"
        "from helpers.bundles.tiny import make_bundle;"
        "from pathlib import Path;"
        "scratch._exchange = lambda one, other: False;"
        "rename = Path.rename;"
        "Path.rename = lambda path, to: (rename(path, to), os.kill(os.getpid(), signal.SIGKILL));"
        "make_bundle(Path(sys.argv[1]), weights='cd' * 32)"
    )
    tests = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code, str(target), tests], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    with pytest.raises(RuntimeError), write_bundle(target):
        raise RuntimeError
    assert (target / "bundle.json").read_bytes() == before
    assert names(tmp_path) == {"bundle"}


def test_files_that_are_not_the_bundles_are_not_lost_with_it(tmp_path):
    target = make_bundle(tmp_path / "bundle")
    (target / "notes").mkdir()
    (target / "notes" / "camera.txt").write_text("calibrated on Monday")
    (target / ".DS_Store").touch()
    with pytest.raises(BundleError, match="would be lost") as error:
        make_bundle(target)
    assert error.value.found == "notes/camera.txt"
    assert (target / "notes" / "camera.txt").exists()
    (target / "notes" / "camera.txt").unlink()
    make_bundle(target)
    assert names(tmp_path) == {"bundle"}


@pytest.mark.parametrize("damage", ["a file is missing", "a file is strange", "no manifest"])
def test_nor_are_they_lost_with_a_damaged_bundle(tmp_path, damage):
    """Which can be replaced itself; a `bundle.json` may also be that of another program."""
    target = make_bundle(tmp_path / "bundle")
    photograph = target / ("graphs" if damage == "a file is strange" else "shots") / "mug.jpg"
    if damage == "a file is missing":
        (target / "graphs" / "match_96x128.onnx").unlink()
    if damage == "no manifest":
        (target / "bundle.json").write_text('{"modules": []}')
    photograph.parent.mkdir(exist_ok=True)
    photograph.write_text("taken on Monday")
    with pytest.raises(BundleError, match="would be lost") as error:
        make_bundle(target)
    assert error.value.found == photograph.relative_to(target).as_posix()
    photograph.unlink()
    make_bundle(target)
    Bundle.open(target).check()


def test_a_link_to_a_bundle_stays_a_link(tmp_path):
    make_bundle(tmp_path / "versions" / "one")
    (tmp_path / "bundle").symlink_to(tmp_path / "versions" / "one")
    make_bundle(tmp_path / "bundle", weights="cd" * 32)
    assert os.path.islink(tmp_path / "bundle")
    assert names(tmp_path / "versions") == {"one"}
    opened = Bundle.open(tmp_path / "versions" / "one")
    assert opened.manifest.model.weights_sha256 == "cd" * 32
