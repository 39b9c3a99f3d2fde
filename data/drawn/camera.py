"""Camera effects: uneven light, colour cast, a tone curve, blur, grain."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from hsnet_trt.data.drawn.render import Floats
from hsnet_trt.data.episodes.episode import Image

GRAINS = 64  # possible offsets of a picture's grain, per axis

Random = np.random.Generator


@dataclass(frozen=True)
class Exposure:
    """The effects of one camera.

    Attributes:
        corners: gain of each colour at the four corners, float32 [2, 2, 3].
        blur: standard deviation in pixels, for a picture whose shorter side is 256; 0: none.
        grain: standard deviation of the noise, in grey levels of 255.
        gamma, contrast, offset: of the tone curve; 1, 1, 0 change nothing.
    """

    corners: Floats
    blur: float
    grain: float
    gamma: float
    contrast: float
    offset: float


def camera(canvas: Floats, rng: Random) -> Image:
    """Apply a random exposure to float32 [H, W, 3] in 0..255; uint8 [H, W, 3]."""
    exposure, shift = draw_exposure(rng)
    return expose(canvas, exposure, shift)


def draw_exposure(rng: Random) -> tuple[Exposure, tuple[int, int]]:
    """Draw an exposure, and the (row, column) offset of its grain."""
    corners = np.exp(rng.normal(0, 0.18, (2, 2, 1)) + rng.normal(0, 0.07, (1, 1, 3)))
    blur = float(rng.uniform(0.3, 1.1)) if rng.random() < 0.4 else 0.0
    row, column = rng.integers(0, GRAINS, 2)
    exposure = Exposure(
        corners=corners.astype(np.float32),
        blur=blur,
        grain=float(rng.uniform(0, 9)),
        gamma=float(np.exp(rng.normal(0, 0.25))),
        contrast=float(np.exp(rng.normal(-0.05, 0.15))),
        offset=float(rng.normal(0, 0.04)),
    )
    return exposure, (int(row), int(column))


def expose(canvas: Floats, exposure: Exposure, shift: tuple[int, int]) -> Image:
    """Apply an exposure to float32 [H, W, 3] in 0..255; returns uint8 [H, W, 3].

    Args:
        canvas: the scene; it is not changed.
        exposure: the effects to apply.
        shift: row and column offset of the grain, 0..GRAINS - 1; another offset is other noise.
    """
    height, width = canvas.shape[:2]
    gain = cv2.resize(exposure.corners, (width, height), interpolation=cv2.INTER_LINEAR)
    canvas = canvas * gain
    if exposure.blur:
        cv2.GaussianBlur(canvas, (0, 0), exposure.blur * min(height, width) / 256, dst=canvas)
    row, column = shift
    grain = _grain(height + GRAINS, width + GRAINS)
    canvas += grain[row : row + height, column : column + width] * np.float32(exposure.grain)
    curve = np.linspace(0, 1, 256) ** exposure.gamma
    curve = np.clip((curve - 0.5) * exposure.contrast + 0.5 + exposure.offset, 0, 1)
    seen = cv2.LUT(np.clip(canvas, 0, 255).astype(np.uint8), (curve * 255).astype(np.uint8))
    return np.asarray(seen, np.uint8)


@functools.lru_cache(maxsize=4)
def _grain(height: int, width: int) -> Floats:
    # Shared by all pictures: drawing new noise for each would take as long as everything else.
    return np.random.default_rng(5).standard_normal((height, width, 3), dtype=np.float32)
