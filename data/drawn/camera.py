"""What a camera adds to what it sees: uneven light, colours, a curve, blur, grain."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from hsnet_trt.data.drawn.render import Floats
from hsnet_trt.data.episodes.episode import Image

GRAINS = 64  # places a side where the grain of a picture may begin

Random = np.random.Generator


@dataclass(frozen=True)
class Exposure:
    """What a camera adds.

    Attributes:
        corners: gain of each colour at the four corners, float32 [2, 2, 3].
        blur: standard deviation, in pixels of a picture with a shorter side of 256; 0 is none.
        grain: standard deviation of the noise, of 255.
        gamma, contrast, offset: of its curve; 1, 1, 0 change nothing.
    """

    corners: Floats
    blur: float
    grain: float
    gamma: float
    contrast: float
    offset: float


def camera(canvas: Floats, rng: Random) -> Image:
    """Add what a camera adds: uneven light, colour cast, gamma, blur, grain. uint8 [H, W, 3]."""
    exposure, shift = draw_exposure(rng)
    return expose(canvas, exposure, shift)


def draw_exposure(rng: Random) -> tuple[Exposure, tuple[int, int]]:
    """Draw an exposure, and where its grain begins."""
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
    """Take a picture of float32 [H, W, 3]; uint8 [H, W, 3].

    Args:
        canvas: what is there; it is left as it is.
        exposure: see there.
        shift: row and column, 0..GRAINS - 1, where the grain begins: another one is other noise.
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
    # Drawing new grain for every picture would take as long as all the rest.
    return np.random.default_rng(5).standard_normal((height, width, 3), dtype=np.float32)
