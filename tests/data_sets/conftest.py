"""Miniature datasets in the layouts of the real ones, made anew for every test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_image(path: Path, seed: int, size: tuple[int, int] = (60, 80)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC).save(path)


def write_index_mask(path: Path, values: np.ndarray, *, palette: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values.astype(np.uint8))
    if palette:
        picture.putpalette([value for k in range(256) for value in (k, 255 - k, k // 2)])
    picture.save(path)


def block(value: int, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """A mask of one class with a border of ignored pixels, 2400 pixels of the class."""
    mask = np.zeros(size, np.uint8)
    mask[4:46, 4:66] = 255
    mask[5:45, 5:65] = value
    return mask


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Three images of every class; the first two of each are for judging."""
    base = tmp_path / "VOC2012"
    held_out = []
    for class_id in range(20):
        for k in range(6):
            name = f"2007_{class_id:02d}{k:04d}"
            write_image(base / "JPEGImages" / f"{name}.jpg", class_id * 10 + k)
            mask = block(class_id + 1)
            write_index_mask(
                base / "SegmentationClassAug" / f"{name}.png", mask, palette=bool(k % 2)
            )
            held_out += [name] * (k < 3)
    listed = base / "ImageSets" / "Segmentation" / "val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("\n".join(held_out) + "\n")
    return tmp_path


@pytest.fixture
def coco_root(tmp_path: Path) -> Path:
    """Three images of every class in both parts."""
    for part in ("train2014", "val2014"):
        for class_id in range(80):
            for k in range(3):
                name = f"COCO_{part}_{class_id:04d}{k:08d}"
                write_image(tmp_path / "COCO2014" / part / f"{name}.jpg", class_id * 10 + k)
                write_index_mask(
                    tmp_path / "COCO2014" / "annotations" / part / f"{name}.png",
                    np.where(block(1) == 1, class_id + 1, 0),
                    palette=False,
                )
    return tmp_path


@pytest.fixture
def fss_root(tmp_path: Path) -> Path:
    """Four classes of ten; the split files lie in splits/fss, with Windows line ends."""
    for place, name in enumerate(["bus", "abacus", "zucchini", "ab_wheel"]):
        for k in range(1, 11):
            write_image(tmp_path / "FSS-1000" / name / f"{k}.jpg", place * 10 + k, (48, 48))
            grey = np.zeros((48, 48), np.uint8)
            grey[8:30, 8 : 20 + k] = 200
            grey[30:40, 8:20] = 100  # not the object: below 128
            Image.fromarray(np.stack([grey] * 3, -1)).save(
                tmp_path / "FSS-1000" / name / f"{k}.png"
            )
    splits = tmp_path / "splits" / "fss"
    splits.mkdir(parents=True)
    (splits / "test.txt").write_bytes(b"zucchini\r\nabacus\r\n")
    (splits / "trn.txt").write_bytes(b"bus\r\n")
    (splits / "val.txt").write_bytes(b"ab_wheel\r\n")
    return tmp_path
