"""Noise, and how Pillow prepares a picture for the network."""

from __future__ import annotations

import numpy as np
from PIL import Image

from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.pictures.preprocess import Placement, normalisation


def noise(seed: int, *size: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def by_pillow(image: np.ndarray, placement: Placement) -> np.ndarray:
    """Resized in two steps, so that columns come before rows as in the kernel; float32 [3,h,w]."""
    height, width = placement.content
    picture = Image.fromarray(image)
    for size in ((width, picture.height), (width, height)):
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    scale, shift = normalisation(Preprocessing())
    planes = np.zeros((3, *placement.network), np.float32)
    inside = planes[:, placement.top :, placement.left :][:, :height, :width]
    inside[...] = np.asarray(picture).transpose(2, 0, 1)
    inside *= scale[:, None, None]
    inside += shift[:, None, None]
    return planes
