"""Pictures and masks for comparing two forms of the network.

Pictures are smooth and masks are blobs. At a support position where the resized mask is nearly but
not quite zero, the cosine's normalisation amplifies rounding: 1e-6 of a feature becomes half of a
unit vector. Masks of independent pixels are full of such positions, and a blob has one wherever its
edge touches a pixel that a resized position falls on exactly. Only blobs without such positions are
used, so that the comparison measures the network and not this effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from hsnet_trt.export.graphs.lowering import Grid, interpolation
from hsnet_trt.runtime.bundle.manifest import Preprocessing

_TRIES = 500  # one blob in three or four is stable at 400 x 400


@dataclass(frozen=True)
class Probe:
    """B queries and S supports at network size."""

    queries: np.ndarray  # uint8 [B,H,W,3]
    supports: np.ndarray  # uint8 [S,H,W,3]
    masks: np.ndarray  # bool [S,H,W], each with some foreground and some background

    @classmethod
    def draw(
        cls, size: Grid, grids: Sequence[Grid], queries: int, supports: int, seed: int = 0
    ) -> Probe:
        """Draw a probe; the same arguments give the same one on every machine.

        Args:
            size: (H, W) of pictures and masks.
            grids: (h, w) of the feature levels that the masks are resized to.
            queries: B, how many queries.
            supports: S, how many supports.
            seed: of the random numbers.
        """
        rng = np.random.RandomState(seed)
        images = [smooth_picture(rng, size) for _ in range(queries + supports)]
        masks = np.stack([_stable_blob(rng, size, grids) for _ in range(supports)])
        return cls(np.stack(images[:queries]), np.stack(images[queries:]), masks)


def normalise(images: np.ndarray) -> torch.Tensor:
    """uint8 [N,H,W,3] -> float32 [N,3,H,W], normalised as a bundle's images are."""
    policy = Preprocessing()
    x = (images.astype(np.float32) / 255 - np.array(policy.mean, np.float32)) / np.array(
        policy.std, np.float32
    )
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32))


def smooth_picture(rng: np.random.RandomState, size: Grid) -> np.ndarray:
    """Noise at several scales, like a photograph's; uint8 [H,W,3]."""
    height, width = size
    total = np.zeros((height, width, 3), np.float32)
    for cells in (4, 9, 25, 60):
        coarse = rng.randint(0, 256, (cells, cells, 3)).astype(np.uint8)
        fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(fine, np.float32)
    return (total / 4).astype(np.uint8)


def _stable_blob(rng: np.random.RandomState, size: Grid, grids: Sequence[Grid]) -> np.ndarray:
    for _ in range(_TRIES):
        mask = _blob(rng, size)
        if all(is_stable(mask, grid) for grid in grids):
            break
    return mask


def is_stable(mask: np.ndarray, grid: Grid) -> bool:
    """Whether zeros stay zero when resized positions shift a little, and nothing else is near 0."""
    exact = resize_mask(mask, grid)
    for shift in (-1e-3, 1e-3):
        moved = resize_mask(mask, grid, shift)
        if ((exact == 0) != (moved == 0)).any() or ((moved > 0) & (moved < 1e-2)).any():
            return False
    return True


def resize_mask(mask: np.ndarray, grid: Grid, shift: float = 0.0) -> np.ndarray:
    """A mask [H,W] resized to `grid` (bilinear, aligned corners) in float64."""
    rows, columns = (
        interpolation(extent, positions, shift)
        for extent, positions in zip(mask.shape, grid, strict=True)
    )
    resized: np.ndarray = rows @ mask.astype(np.float64) @ columns.T
    return resized


def _blob(rng: np.random.RandomState, size: Grid) -> np.ndarray:
    """An ellipse that takes a tenth to a third of the picture."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    cy, cx = rng.uniform(0.35, 0.65, 2) * (height, width)
    ry, rx = rng.uniform(0.2, 0.32, 2) * (height, width)
    mask: np.ndarray = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
    return mask
