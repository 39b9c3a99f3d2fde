"""Pieces of photographs to serve as objects: given masks, or superpixels and unions of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from skimage.segmentation import felzenszwalb, slic

from hsnet_trt.data.episodes.episode import Image, Mask
from hsnet_trt.data.episodes.files import check_same_size, read_alpha, read_any_mask, read_image
from hsnet_trt.errors import InputError

PIECES = 8  # per photograph without a mask; a given mask is one piece
_LONGER_SIDE = 448  # pixels; larger photographs are shrunk to it
_SMALLEST, _LARGEST = 0.02, 0.4  # share of the photograph that a piece covers


@dataclass(frozen=True)
class Photo:
    """A photograph, uint8 [H, W, 3], and its pieces, bool [H, W] each.

    `cutout`: nothing surrounds its piece, so it can only be pasted elsewhere.
    """

    image: Image
    pieces: tuple[Mask, ...]
    cutout: bool = False


@functools.lru_cache(maxsize=1024)
def load_photo(path: Path, mask_path: Path | None) -> Photo:
    """Read a photograph and choose its pieces, the same ones every time. Raises InputError."""
    image = read_image(path, upright=True)
    if mask_path is not None:
        mask, _ = read_any_mask(mask_path, upright=True)
        check_same_size(image, mask, mask_path)
        if not mask.any():
            raise InputError(f"the mask {mask_path} marks nothing", expected="the object in white")
        small = np.asarray(_shrink(mask.astype(np.uint8)) > 0)
        return Photo(_shrink(image), (_not_lost(small, mask_path),))
    alpha = read_alpha(path, upright=True)
    image = _shrink(image)
    if alpha is None:
        return Photo(image, tuple(_cut_up(image)))
    opaque = np.asarray(_shrink(alpha) > 127)
    return Photo(image, (_not_lost(opaque, path),), cutout=True)


def _not_lost(piece: Mask, path: Path) -> Mask:
    if not piece.any():
        raise InputError(
            f"the object of {path} is too small, or transparent",
            expected=f"an opaque pixel of it left, with a longer side of {_LONGER_SIDE} at most",
            fix="leave the picture out",
        )
    return piece


@functools.lru_cache(maxsize=1024)
def load_ground(path: Path) -> Image:
    """Read a photograph as `load_photo` does, without choosing pieces. Raises InputError."""
    return np.asarray(_shrink(read_image(path, upright=True)))


def _shrink(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    scale = _LONGER_SIDE / max(picture.shape[:2])
    if scale >= 1:
        return picture
    how = cv2.INTER_AREA if picture.ndim == 3 else cv2.INTER_NEAREST
    if min(picture.shape[:2]) * scale < 1:  # OpenCV would round its width to nothing
        size = (max(1, round(n * scale)) for n in picture.shape[1::-1])
        return np.asarray(cv2.resize(picture, tuple(size), interpolation=how), np.uint8)
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=how), np.uint8)


def _cut_up(image: Image) -> list[Mask]:
    """Choose PIECES pieces: superpixels of one colour, and unions of neighbouring ones."""
    rng = np.random.default_rng([image.shape[0], image.shape[1], int(image[::7, ::7].sum())])
    area = image.shape[0] * image.shape[1]
    one_colour = felzenszwalb(image, scale=250, sigma=0.8, min_size=int(area * 0.01))
    candidates = [one_colour == number for number in range(int(one_colour.max()) + 1)]
    compact = slic(image, n_segments=30, compactness=12, start_label=0, channel_axis=-1)
    for labels in (compact, one_colour):
        for _ in range(PIECES):
            candidates.append(_union(labels, int(rng.integers(1, 5)), rng))
    candidates = [_largest_part(mask) for mask in candidates]
    fitting = [mask for mask in candidates if _SMALLEST <= mask.mean() <= _LARGEST]
    # Prefer compact pieces to webs of thin lines.
    fitting = [mask for mask in fitting if _fill(mask) > 0.35] or fitting
    # A nearly flat piece (sky, a wall) could be recognised by its colour only.
    rich = [mask for mask in fitting if float(image[mask].std(axis=0).mean()) > 12]
    pool = rich or fitting or [compact == 0]
    return [pool[int(rng.integers(len(pool)))] for _ in range(PIECES)]


def _largest_part(mask: Mask) -> Mask:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 3:
        return mask
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))


def _fill(mask: Mask) -> float:
    """The share of its bounding box that a piece fills, 0..1."""
    box = int(np.ptp(np.flatnonzero(mask.any(0))) + 1) * int(
        np.ptp(np.flatnonzero(mask.any(1))) + 1
    )
    return float(mask.sum()) / box


def _union(labels: npt.NDArray[np.intp], count: int, rng: np.random.Generator) -> Mask:
    """Join a random segment with up to `count` neighbours, one after the other."""
    mask = labels == rng.integers(0, int(labels.max()) + 1)
    for _ in range(count):
        wider = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        near = np.unique(labels[wider & ~mask])
        if len(near):
            mask = mask | (labels == near[int(rng.integers(len(near)))])
    return np.asarray(mask, np.bool_)
