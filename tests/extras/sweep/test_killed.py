"""Sweeps that are killed and taken up again: the command, its workers, and parts half written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from extras.sweep.pictures import PLAN, check, fill

from hsnet_trt.serving.sweep import plan as sweep_plan
from hsnet_trt.serving.sweep import worker as sweep_worker
from hsnet_trt.serving.sweep.plan import begin, clear_unfinished, finished
from hsnet_trt.serving.sweep.sweep import sweep
from hsnet_trt.serving.sweep.worker import SweepWorker

pytest.importorskip("ray.data", reason="the extra `sweep` is not installed")
fs = pytest.importorskip("pyarrow.fs")
pytest.importorskip("pycocotools.mask", reason="the extra `sweep` is not installed")


def command(bundle: Path, supports: Path, images: Path | str, out: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "hsnet_trt.cli.main", "sweep", str(bundle)),
        *("--supports", str(supports), "--images", str(images), "--out", str(out)),
        *("--workers", "2", "--part", "4", "--backend", "onnxruntime"),
    ]


def workers() -> list[int]:
    """The processes of Ray's that hold a sweep's worker."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"MapWorker" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def wait(until, process: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_killed_in_the_middle_and_taken_up_again(bundle, supports, local, tmp_path):
    """The command is killed, then a worker of the next run; nothing is lost or done twice."""
    fill(tmp_path / "images", 400)
    out = tmp_path / "results"
    line = command(bundle, supports, tmp_path / "images", out)

    def parts() -> dict[str, int]:
        return {p.name: p.stat().st_mtime_ns for p in out.glob("images/*.parquet")}

    first = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait(lambda: len(parts()) >= 5, first)
    first.kill()
    first.communicate()
    end = time.monotonic() + 60
    while workers():  # Ray's processes end with the one that started them
        assert time.monotonic() < end
        time.sleep(0.1)
    before = parts()
    assert 5 <= len(before) < 101
    second = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait(lambda: len(parts()) >= len(before) + 5, second)
    os.kill(workers()[0], signal.SIGKILL)
    _, said = second.communicate(timeout=240)
    assert second.returncode == 0, said.decode()
    after = parts()
    assert len(after) == 101  # 403 files, four in a part
    assert {name: after[name] for name in before} == before
    check(out, local, 400)
    third = sweep(bundle, supports, str(tmp_path / "images"), str(out))  # nothing is left to do
    assert (third.images, third.done, third.done_now) == (403, 403, 0)
    assert parts() == after
    assert not list(out.rglob("*.writing"))


@pytest.mark.parametrize("name", ["listing.parquet", "sweep.json"])
def test_killed_while_it_was_being_begun(tmp_path, monkeypatch, name):
    fill(tmp_path / "images", 2)
    images, out = str(tmp_path / "images"), tmp_path / "results"
    whole = sweep_plan.write_atomically

    def dies(files: object, path: str, content: bytes) -> None:
        if path.endswith(name):
            out.mkdir(exist_ok=True)
            Path(f"{path}.1a2b.writing").write_bytes(content[:9])
            raise KeyboardInterrupt
        whole(files, path, content)

    monkeypatch.setattr(sweep_plan, "write_atomically", dies)
    with pytest.raises(KeyboardInterrupt):
        begin(str(out), images, PLAN, 4)
    monkeypatch.setattr(sweep_plan, "write_atomically", whole)
    assert begin(str(out), images, PLAN, 4).count == 5
    clear_unfinished(str(out))
    assert sorted(p.name for p in out.iterdir()) == ["listing.parquet", "sweep.json"]


def test_a_part_that_was_being_written_is_done_again(
    bundle, supports, local, tmp_path, monkeypatch
):
    fill(tmp_path / "images", 6)
    out = str(tmp_path / "results")
    plan = begin(out, str(tmp_path / "images"), PLAN, 4)
    content = {p.relative_to(bundle).as_posix(): p.read_bytes() for p in bundle.rglob("*.*")}
    worker = SweepWorker(content, supports.read_bytes(), out, plan.images, {"size": (96, 128)})
    whole = sweep_worker.write_atomically

    def dies(files: object, path: str, content: bytes) -> None:
        if "/images/" in path:
            raise KeyboardInterrupt
        whole(files, path, content)

    monkeypatch.setattr(sweep_worker, "write_atomically", dies)
    with pytest.raises(KeyboardInterrupt):
        worker.sweep(0)
    assert finished(out, plan) == set()
    monkeypatch.setattr(sweep_worker, "write_atomically", whole)
    done = worker({"part": np.arange(plan.parts)})
    assert list(done["part"]) == [0, 1, 2] and done["images"].sum() == 9
    assert done["errors"].sum() == 3
    assert finished(out, plan) == {0, 1, 2}
    check(tmp_path / "results", local, 6)


def test_two_sweeps_at_once_into_one_folder(tmp_path):
    """Neither meets what the other has written half."""
    local, meet = fs.LocalFileSystem(), threading.Barrier(2)

    class Files:
        type_name = "local"

        def __getattr__(self, name):
            if name == "move":
                meet.wait(20)  # both are written and neither is in place
            return getattr(local, name)

    path = tmp_path / "images" / "part-0000000.parquet"
    contents = (bytes(1000), bytes(2000))
    with ThreadPoolExecutor(2) as pool:
        writes = [pool.submit(sweep_plan.write_atomically, Files(), str(path), c) for c in contents]
        assert [done.result() for done in writes] == [None, None]
    assert path.read_bytes() in contents
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_end_of_one_sweep_is_not_the_others(tmp_path):
    """One that comes to its end removes what another writes of a part that is there already."""
    files, out = fs.LocalFileSystem(), tmp_path / "results"
    (out / "images").mkdir(parents=True)
    target = out / "images" / "part-0000000.parquet"
    target.write_bytes(b"whole")

    class Files:
        type_name = "local"

        def __getattr__(self, name):
            if name == "move":
                clear_unfinished(str(out))
            return getattr(files, name)

    sweep_plan.write_atomically(Files(), str(target), b"whole")
    assert target.read_bytes() == b"whole"
    target.unlink()
    with pytest.raises(FileNotFoundError):
        sweep_plan.write_atomically(Files(), str(target), b"whole")
