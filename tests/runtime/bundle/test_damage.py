"""A bundle whose files are not what the manifest says is refused, before anything runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BundleError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.verify import verify_bundle


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def manifest(path: Path, change: Callable[[dict], object]) -> None:
    data = json.loads((path / "bundle.json").read_text())
    change(data)
    (path / "bundle.json").write_text(json.dumps(data))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


MATCH = "graphs/match_96x128.onnx"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing graph": (lambda p: (p / MATCH).unlink(), "missing"),
    "altered graph": (lambda p: flip(p / MATCH), "altered"),
    "cut graph": (lambda p: (p / MATCH).write_bytes(b"12"), "damaged"),
    "extra engine": (
        lambda p: [(p / "engines").mkdir(), (p / "engines/match.engine").write_bytes(b"x")],
        "does not know it",
    ),
    "extra graph": (lambda p: (p / "graphs/x.onnx").write_bytes(b"x"), "does not know it"),
    "no manifest": (lambda p: (p / "bundle.json").unlink(), "no bundle"),
    "newer format": (lambda p: manifest(p, lambda d: d.update(format_version=3)), "format version"),
    "older format": (lambda p: manifest(p, lambda d: d.update(format_version=1)), "format version"),
    "no format": (lambda p: manifest(p, lambda d: d.pop("format_version")), "format version"),
    "not JSON": (lambda p: (p / "bundle.json").write_bytes(b"\xff\0"), "JSON"),
    "a list": (lambda p: (p / "bundle.json").write_text("[]"), "format version"),
    "mis-typed": (lambda p: manifest(p, lambda d: d.update(sizes=["400"])), "sizes"),
    "unknown key": (lambda p: manifest(p, lambda d: d.update(run="this")), "as it should be"),
    "no vouching": (lambda p: manifest(p, lambda d: d["files"].pop(MATCH)), "vouch|know"),
    "key twice": (
        lambda p: (p / "bundle.json").write_text('{"format_version": 1, "format_version": 2}'),
        "stands twice",
    ),
    "huge number": (
        lambda p: (p / "bundle.json").write_text('{"format_version": ' + "9" * 5000 + "}"),
        "not JSON",
    ),
    "link onto itself": (lambda p: loop(p / MATCH), "leads nowhere"),
    "folder onto itself": (
        lambda p: [shutil.rmtree(p / "graphs"), (p / "graphs").symlink_to(p / "graphs")],
        "leads nowhere",
    ),
    "folder where a file was": (lambda p: [(p / MATCH).unlink(), (p / MATCH).mkdir()], "missing"),
    "link out": (
        lambda p: [(p / MATCH).unlink(), (p / MATCH).symlink_to("/etc/hostname")],
        "out of the bundle",
    ),
    "path outside": (
        lambda p: manifest(p, lambda d: d["files"].update({"../x": d["files"].pop(MATCH)})),
        "vouch|outside",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_bundles_do_not_load(copy: Path, damage: str) -> None:
    spoil, says = DAMAGES[damage]
    spoil(copy)
    with pytest.raises(BundleError, match=says):
        FewShotSegmenter.load(copy)
    with pytest.raises(BundleError, match=says):
        verify_bundle(copy)


def entry(data: dict, name: str = "match") -> dict:
    return next(g for g in data["graphs"] if g["variant"]["graph"] == name)


def rename(data: dict, name: str) -> None:
    data["files"][name] = data["files"].pop(MATCH)
    entry(data)["file"] = name


# Field that is named, what is expected of it, what is found there.
FIELDS: list[tuple[Callable[[dict], object], str, str, str]] = [
    (
        lambda d: entry(d)["inputs"][0].update(shape=["B", "fifty", 3, 4]),
        "graphs[2].inputs[0].shape",
        "numbers from 1 up",
        "fifty",
    ),
    (
        lambda d: entry(d)["inputs"][0].update(shape=["B", 2, 3, "S"]),
        "graphs[2]",
        "f2, f3, f4",
        "'S'",
    ),
    (lambda d: entry(d)["inputs"][0].update(shape=["B", 2, 3, -4]), "shape", "1 up", "-4"),
    (lambda d: entry(d)["inputs"][0].update(shape=["B", True, 3, 4]), "shape[1]", "number", "True"),
    (lambda d: entry(d).update(inputs=entry(d)["inputs"][:2]), "graphs[2]", "f2, f3, f4", "('f3'"),
    (lambda d: d.update(sizes=[[96, 0]]), "sizes[0][1]", "1 to 65536", "0"),
    (lambda d: d["model"].pop("trained"), "model.trained", "a value", "nothing"),
    (lambda d: d["preprocessing"].update(std=[1, 1, 0]), "std[2]", "above 0", "0"),
    (lambda d: d["preprocessing"].update(mean=[1, 1, 10**400]), "mean[2]", "a number", "1000"),
    (lambda d: d["files"][MATCH].update(sha256="0x" + "0" * 62), "sha256", "64 hexa", "0x0"),
    (lambda d: d["files"][MATCH].update(bytes="12"), "bytes", "a whole number", "'12'"),
    (lambda d: rename(d, "/etc/passwd"), "file", "not outside", "/etc/passwd"),
    (lambda d: rename(d, "graphs/\0"), "file", "not outside", "x00"),
    (lambda d: rename(d, "graphs/" + "a" * 300), "file", "not outside", "aaa"),
    (lambda d: rename(d, "graphs/\ud800"), "file", "not outside", "ud800"),
]


@pytest.mark.parametrize("number", range(len(FIELDS)))
def test_the_field_is_named_with_what_was_expected_and_found(copy: Path, number: int) -> None:
    change, field, expected, found = FIELDS[number]
    manifest(copy, change)
    with pytest.raises(BundleError, match="is not as it should be") as caught:
        FewShotSegmenter.load(copy)
    assert field in caught.value.summary
    assert expected in str(caught.value.expected)
    assert found in str(caught.value.found)


def test_a_file_that_is_none_of_the_bundles_is_never_read(copy: Path) -> None:
    """Beside the manifest it may lie; in the bundle's own folders it is refused (above)."""
    (copy / "README.txt").write_text("mine")
    (copy / "more").mkdir()
    (copy / "more" / "match.engine").write_bytes(b"native code")
    FewShotSegmenter.load(copy).close()
    with pytest.raises(BundleError, match="vouch"):
        Bundle.open(copy).read("more/match.engine")


def test_the_manifest_in_the_place_of_its_folder(bundle: Path) -> None:
    with pytest.raises(BundleError, match="no bundle") as caught:
        Bundle.open(bundle / "bundle.json")
    assert caught.value.fix == f"give its folder: {bundle}"


def test_a_newer_format_says_upgrade(copy: Path) -> None:
    manifest(copy, lambda d: d.update(format_version=99, something_new=1))
    with pytest.raises(BundleError) as caught:
        FewShotSegmenter.load(copy)
    assert "upgrade" in str(caught.value.fix)
    assert (caught.value.expected, caught.value.found) == ("2", "99")


def test_the_callers_hash_proves_origin(bundle: Path) -> None:
    import hashlib

    right = hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
    FewShotSegmenter.load(bundle, sha256=right.upper()).close()
    with pytest.raises(BundleError, match="asked for"):
        FewShotSegmenter.load(bundle, sha256="0" * 64)
