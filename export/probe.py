"""Pictures and masks to compare two forms of the network with.

They are smooth, and masks are blobs: masks of independent pixels would amplify rounding through
the cosine until it drowns what is being looked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from hsnet_trt.export.lowering import Grid
from hsnet_trt.runtime.manifest import Preprocessing


@dataclass(frozen=True)
class Probe:
    """B queries and S supports at network size."""

    queries: np.ndarray  # uint8 [B,H,W,3]
    supports: np.ndarray  # uint8 [S,H,W,3]
    masks: np.ndarray  # bool [S,H,W], each with some foreground and some background

    @classmethod
    def draw(cls, size: Grid, queries: int, supports: int, seed: int = 0) -> Probe:
        """The same for the same arguments, on every machine."""
        rng = np.random.RandomState(seed)
        images = [_smooth(rng, size) for _ in range(queries + supports)]
        masks = np.stack([_blob(rng, size) for _ in range(supports)])
        return cls(np.stack(images[:queries]), np.stack(images[queries:]), masks)


def normalise(images: np.ndarray) -> torch.Tensor:
    """uint8 [N,H,W,3] -> float32 [N,3,H,W], normalised as a bundle's images are."""
    policy = Preprocessing()
    x = (images.astype(np.float32) / 255 - np.float32(policy.mean)) / np.float32(policy.std)
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32))


def _smooth(rng: np.random.RandomState, size: Grid) -> np.ndarray:
    """Noise at several scales, as a picture has it."""
    height, width = size
    total = np.zeros((height, width, 3), np.float32)
    for cells in (4, 9, 25, 60):
        coarse = rng.randint(0, 256, (cells, cells, 3)).astype(np.uint8)
        fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(fine, np.float32)
    return (total / 4).astype(np.uint8)


def _blob(rng: np.random.RandomState, size: Grid) -> np.ndarray:
    """An ellipse that takes a tenth to a third of the picture."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    cy, cx = rng.uniform(0.35, 0.65, 2) * (height, width)
    ry, rx = rng.uniform(0.2, 0.32, 2) * (height, width)
    mask: np.ndarray = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
    return mask
