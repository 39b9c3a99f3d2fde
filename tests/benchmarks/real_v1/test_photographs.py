"""The list and the masks of real-v1 are whole, and what is gathered is what was judged."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hsnet_trt.benchmarks.real_v1 import photographs as listed
from hsnet_trt.benchmarks.real_v1.photographs import MASKS, Photograph, gather, photographs
from hsnet_trt.data.sources import Source
from hsnet_trt.errors import InputError


def test_the_set_is_as_large_as_it_says() -> None:
    of_class = Counter(photograph.kind for photograph in photographs())
    assert len(photographs()) >= 100 and len(of_class) >= 20
    assert min(of_class.values()) >= 2
    assert len({photograph.sha256 for photograph in photographs()}) == len(photographs())


def test_every_photograph_has_its_mask_of_one_bit() -> None:
    assert {p.mask for p in photographs()} == set(MASKS.rglob("*.png"))
    for photograph in photographs():
        with Image.open(photograph.mask) as mask:
            assert mask.mode == "1"
            assert 0.005 < float(np.asarray(mask).mean()) < 0.9, photograph.mask


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package scikit-image with one photograph, and the list of it."""
    place = tmp_path / "site" / "skimage"
    place.mkdir(parents=True)
    (place / "__init__.py").write_text("")
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(picture).save(place / "mug.png")
    mask = np.zeros((40, 60), np.bool_)
    mask[10:30, 10:50] = True
    (tmp_path / "masks/mug").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "masks/mug/blue.png")
    sha256 = hashlib.sha256((place / "mug.png").read_bytes()).hexdigest()
    one = Photograph("mug", "blue", "scikit-image", "skimage/mug.png", sha256)
    monkeypatch.setattr(listed, "photographs", lambda: (one,))
    monkeypatch.setattr(listed, "MASKS", tmp_path / "masks")
    spec = type("Spec", (), {"origin": str(place / "__init__.py")})
    monkeypatch.setattr(listed.importlib.util, "find_spec", lambda name: spec)
    return place / "mug.png"


def test_what_is_gathered_is_read_as_a_folder(package: Path, tmp_path: Path) -> None:
    root = gather(tmp_path / "out")
    before = (root / "mug/blue.bmp").stat().st_mtime_ns
    assert gather(tmp_path / "out") == root
    assert (root / "mug/blue.bmp").stat().st_mtime_ns == before
    with Image.open(package) as wanted, Image.open(root / "mug/blue.bmp") as found:
        np.testing.assert_array_equal(np.asarray(wanted), np.asarray(found))
    (root / "mug/again.bmp").write_bytes((root / "mug/blue.bmp").read_bytes())
    (root / "mug/again.png").write_bytes((root / "mug/blue.png").read_bytes())
    episode = Source(("folder",), root=root, size=(40, 60)).open("test")[0]
    assert episode.query_mask.sum() == 20 * 40


def test_another_photograph_is_refused(package: Path, tmp_path: Path) -> None:
    Image.new("RGB", (60, 40)).save(package)
    with pytest.raises(InputError, match=r"brings another skimage/mug\.png"):
        gather(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.bmp"))


def test_a_missing_package_is_named_with_its_command(package: Path, tmp_path: Path) -> None:
    package.unlink()
    with pytest.raises(InputError) as error:
        gather(tmp_path / "out")
    assert "pip install scikit-image" in str(error.value.fix)
