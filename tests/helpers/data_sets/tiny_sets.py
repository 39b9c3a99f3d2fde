"""Miniature datasets on disk: coloured blobs of a few classes on noise, quick to read and learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = np.array([(230, 40, 40), (40, 220, 60), (60, 80, 240), (230, 220, 50), (220, 60, 220)])


def blob(seed: int, class_id: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A picture, uint8 [H,W,3], and where its ellipse is, bool [H,W]."""
    rng = np.random.default_rng([seed, class_id])
    rows, columns = np.mgrid[: size[0], : size[1]]
    centre = rng.uniform(0.35, 0.65, 2) * size
    radii = rng.uniform(0.15, 0.3, 2) * size
    mask = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1
    picture = rng.integers(0, 160, (*size, 3))
    picture[mask] = COLOURS[class_id % len(COLOURS)] - rng.integers(0, 30, 3)
    return picture.clip(0, 255).astype(np.uint8), mask


def write_folder(
    root: Path, *, classes: int = 2, images: int = 4, size: tuple[int, int] = (64, 64)
) -> Path:
    """ROOT/CLASS/N.jpg with N.png, as the source `folder` reads it."""
    for class_id in range(classes):
        place = root / f"class{class_id}"
        place.mkdir(parents=True)
        for number in range(images):
            picture, mask = blob(number, class_id, size)
            Image.fromarray(picture).save(place / f"{number}.jpg", quality=95)
            Image.fromarray(mask.astype(np.uint8) * 255).save(place / f"{number}.png")
    return root


def write_voc(root: Path, *, images: int = 3, size: tuple[int, int] = (180, 240)) -> Path:
    """ROOT/VOC2012 with fold 0's five classes and ignored pixels along each object.

    The objects are larger than the 2048 pixels below which the authors' lists leave one out.
    """
    base = root / "VOC2012"
    for part in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (base / part).mkdir(parents=True)
    names = []
    for class_id in range(5):
        for number in range(images):
            names.append(f"2007_{class_id:02d}{number:04d}")
            picture, mask = blob(number, class_id, size)
            values = np.where(mask, class_id + 1, 0).astype(np.uint8)
            border = mask ^ np.roll(mask, 2, axis=1)
            values[border] = 255
            Image.fromarray(picture).save(base / "JPEGImages" / f"{names[-1]}.jpg", quality=95)
            Image.fromarray(values).save(base / "SegmentationClassAug" / f"{names[-1]}.png")
    (base / "ImageSets/Segmentation/val.txt").write_text("\n".join(names) + "\n")
    return root


def write_cutouts(root: Path, *, classes: int = 10) -> None:
    """ROOT/thingK/N.png, pictures with transparency: two of the first class, one of each other."""
    rng = np.random.default_rng(3)
    for k in range(classes):
        folder = root / f"thing{k}"
        folder.mkdir(parents=True)
        for n in range(2 if k == 0 else 1):
            picture = np.zeros((60, 50, 4), np.uint8)
            picture[10:50, 5 : 30 + 10 * n, :3] = rng.integers(0, 255, 3)
            picture[10:50, 5 : 30 + 10 * n, 3] = 255
            Image.fromarray(picture).save(folder / f"{n}.png")
