"""A bundle whose files are not what the manifest says is refused, before anything runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BundleError
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
    "newer format": (lambda p: manifest(p, lambda d: d.update(format_version=2)), "format version"),
    "no format": (lambda p: manifest(p, lambda d: d.pop("format_version")), "format version"),
    "not JSON": (lambda p: (p / "bundle.json").write_bytes(b"\xff\0"), "JSON"),
    "a list": (lambda p: (p / "bundle.json").write_text("[]"), "format version"),
    "mis-typed": (lambda p: manifest(p, lambda d: d.update(sizes=["400"])), "sizes"),
    "unknown key": (lambda p: manifest(p, lambda d: d.update(run="this")), "as it should be"),
    "no vouching": (lambda p: manifest(p, lambda d: d["files"].pop(MATCH)), "vouch|know"),
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


def test_a_newer_format_says_upgrade(copy: Path) -> None:
    manifest(copy, lambda d: d.update(format_version=99, something_new=1))
    with pytest.raises(BundleError) as caught:
        FewShotSegmenter.load(copy)
    assert "upgrade" in str(caught.value.fix)
    assert (caught.value.expected, caught.value.found) == ("1", "99")


def test_the_callers_hash_proves_origin(bundle: Path) -> None:
    import hashlib

    right = hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
    FewShotSegmenter.load(bundle, sha256=right.upper()).close()
    with pytest.raises(BundleError, match="asked for"):
        FewShotSegmenter.load(bundle, sha256="0" * 64)
