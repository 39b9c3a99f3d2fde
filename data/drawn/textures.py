"""Surface patterns as fields of one value per pixel, and palettes that colour them.

A field says where a pattern is light or dark; a palette gives the colours. Keeping them apart lets
two objects share colours but not the pattern, or the pattern but not the colours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

SIDE = 192  # of a field, in pixels

Field = npt.NDArray[np.uint8]  # [SIDE, SIDE], 0..255
Palette = npt.NDArray[np.uint8]  # [256, 3], RGB: the colour of each value of a field
Floats = npt.NDArray[np.float32]
Random = np.random.Generator


@functools.lru_cache(maxsize=1200)
def field(family: int, key: int) -> Field:
    """Pattern number `key` of a family, uint8 [SIDE, SIDE]; the same key gives the same pattern."""
    rng = np.random.default_rng([key, family, 11])
    values = FAMILIES[family](rng)
    low, high = float(values.min()), float(values.max())
    drawn = np.rint((values - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)
    drawn.setflags(write=False)
    return np.asarray(drawn, np.uint8)


@functools.lru_cache(maxsize=4096)
def smaller(family: int, key: int, halvings: int) -> Field:
    """A pattern shrunk to SIDE / 2**halvings pixels a side, to avoid aliasing."""
    side = SIDE >> halvings
    small = cv2.resize(field(family, key), (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def draw_palette(rng: Random) -> Palette:
    """The colours of a random material: 2 to 5 of them, blended smoothly or in steps."""
    count = int(rng.integers(2, 6))
    hue, spread = rng.random(), rng.choice([0.03, 0.12, 0.5])
    hues = (hue + rng.uniform(-spread, spread, count)) % 1
    saturation = np.clip(rng.uniform(0, 0.9) + rng.normal(0, 0.15, count), 0, 1)
    light = rng.uniform(0.1, 0.95, count)
    if np.ptp(light) < 0.3:  # or the pattern would be invisible
        light[0] = light[0] - 0.4 if light[0] > 0.5 else light[0] + 0.4
    hsv = np.stack([hues * 360, saturation, light], axis=-1).astype(np.float32)
    colours = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] * 255
    # Sharpness of the borders between colours: 1 blends everywhere, 12 gives steps.
    place = _VALUES * np.float32(count - 1)
    first = np.minimum(place.astype(np.intp), count - 2)
    part = (place - first - 0.5) * np.float32(rng.choice([1.0, 3.0, 12.0])) + 0.5
    part = np.clip(part, 0, 1)[:, None]
    return np.asarray(colours[first] * (1 - part) + colours[first + 1] * part, np.uint8)


_VALUES = np.linspace(0, 1, 256, dtype=np.float32)


@functools.lru_cache(maxsize=4096)
def palette(key: int) -> Palette:
    """Palette number `key`; always the same colours."""
    drawn = draw_palette(np.random.default_rng([key, 17]))
    drawn.setflags(write=False)
    return np.asarray(drawn, np.uint8)


def paint(pattern: npt.NDArray[np.uint8], colours: Palette, gain: Floats | None = None) -> Floats:
    """Colour a pattern, float32 [h, w, 3] in 0..255; `gain` [3] scales red, green and blue."""
    table = colours.astype(np.float32)
    if gain is not None:
        table *= gain
    return np.asarray(cv2.LUT(cv2.merge([pattern] * 3), table[None]), np.float32)


def _noise(rng: Random, rows: int, columns: int | None = None) -> Floats:
    """Smooth noise of about 0..1, with `rows` x `columns` cells."""
    cells = rng.random((rows + 1, (columns or rows) + 1), dtype=np.float32)
    smooth = cv2.resize(cells, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth, np.float32)


def _fractal(rng: Random, cells: int) -> Floats:
    sums = _noise(rng, cells) + 0.5 * _noise(rng, 2 * cells) + 0.25 * _noise(rng, 4 * cells)
    return np.asarray(sums, np.float32)


_ROWS, _COLUMNS = np.mgrid[:SIDE, :SIDE].astype(np.float32) / SIDE


def _turned(rng: Random) -> tuple[Floats, Floats]:
    """Coordinates of about 0..2, rotated by a random angle."""
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return _COLUMNS * cos + _ROWS * sin + 1, _ROWS * cos - _COLUMNS * sin + 1


def _wave(phase: Floats, hardness: float) -> Floats:
    return np.asarray(np.clip(np.sin(2 * np.pi * phase) * hardness * 0.5 + 0.5, 0, 1), np.float32)


def _mottled(rng: Random) -> Floats:
    return np.asarray(_fractal(rng, int(rng.integers(4, 9))), np.float32)


def _camouflage(rng: Random) -> Floats:
    steps = int(rng.integers(3, 5))
    values = _fractal(rng, int(rng.integers(5, 10)))
    values = (values - values.min()) / np.ptp(values)
    return np.asarray(np.floor(values * steps * 0.999), np.float32)


def _stripes(rng: Random) -> Floats:
    across, _ = _turned(rng)
    return _wave(across * rng.uniform(5, 16), rng.choice([1.0, 5.0]))


def _zebra(rng: Random) -> Floats:
    across, _ = _turned(rng)
    warp = _noise(rng, int(rng.integers(3, 7))) * np.float32(rng.uniform(0.5, 1.4))
    return _wave(across * rng.uniform(5, 12) + warp, rng.choice([2.0, 6.0]))


def _checks(rng: Random) -> Floats:
    a, b = _turned(rng)
    frequency = rng.uniform(4, 11)
    first, second = _wave(a * frequency, 8), _wave(b * frequency * rng.uniform(0.6, 1.6), 8)
    return np.asarray(first + second - 2 * first * second, np.float32)


def _dots(rng: Random) -> Floats:
    a, b = _turned(rng)
    frequency = rng.uniform(5, 13)
    column = a * frequency
    row = b * frequency + (np.floor(column) % 2) * np.float32(rng.choice([0.0, 0.5]))
    away = np.hypot(column % 1 - 0.5, row % 1 - 0.5)
    return np.asarray(np.clip((rng.uniform(0.2, 0.4) - away) * 12 + 0.5, 0, 1), np.float32)


def _spots(rng: Random) -> Floats:
    values = _noise(rng, int(rng.integers(9, 20))) - _noise(rng, 4) * 0.3
    ring = np.abs(values - rng.uniform(0.3, 0.5)) if rng.random() < 0.5 else values - 0.35
    return np.asarray(np.clip(ring * 8, 0, 1), np.float32)


def _cells(rng: Random) -> Floats:
    count = int(rng.integers(5, 13))
    steps = (np.arange(count) + 0.5) * SIDE / count
    jitter = rng.uniform(-0.45, 0.45, (2, count, count)) * SIDE / count
    rows = np.clip(steps[:, None] + jitter[0], 0, SIDE - 1).astype(int)
    columns = np.clip(steps[None, :] + jitter[1], 0, SIDE - 1).astype(int)
    empty = np.ones((SIDE, SIDE), np.uint8)
    empty[rows, columns] = 0
    away, label = cv2.distanceTransformWithLabels(
        empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    shade = rng.random(int(label.max()) + 1, dtype=np.float32)[label]
    if rng.random() < 0.5:
        return np.asarray(shade + 0.2 * np.asarray(away, np.float32) / away.max(), np.float32)
    return np.asarray(away + 4 * shade, np.float32)


def _bricks(rng: Random) -> Floats:
    a, b = _turned(rng)
    frequency = rng.uniform(6, 14)
    row = b * frequency
    column = a * frequency * rng.uniform(0.3, 0.7) + (np.floor(row) % 2) * np.float32(0.5)
    tone = rng.random((64, 64), dtype=np.float32)
    shade = tone[np.floor(row).astype(int) % 64, np.floor(column).astype(int) % 64]
    mortar = (row % 1 < 0.16) | (column % 1 < 0.09)
    return np.asarray(
        np.where(mortar, np.float32(rng.choice([0.0, 1.4])), 0.35 + 0.6 * shade), np.float32
    )


def _fibres(rng: Random) -> Floats:
    long, thin = int(rng.integers(2, 7)), int(rng.integers(28, 64))
    return _noise(rng, long, thin) + 0.6 * _noise(rng, 2 * long, 2 * thin)


def _rings(rng: Random) -> Floats:
    centre = rng.uniform(-0.3, 1.3, 2).astype(np.float32)
    away = np.hypot(_COLUMNS - centre[0], _ROWS - centre[1])
    grain = _noise(rng, int(rng.integers(3, 6))) * np.float32(rng.uniform(0.05, 0.25))
    return _wave((away + grain) * rng.uniform(8, 18), rng.choice([1.0, 3.0]))


def _weave(rng: Random) -> Floats:
    a, b = _turned(rng)
    frequency = rng.uniform(5, 12)
    over = (np.floor(a * frequency) + np.floor(b * frequency)) % 2
    round_a, round_b = np.abs(a * frequency % 1 - 0.5), np.abs(b * frequency % 1 - 0.5)
    return np.asarray(np.where(over > 0, 1 - round_a * 1.6, 0.6 - round_b * 1.1), np.float32)


def _speckle(rng: Random) -> Floats:
    values = cv2.GaussianBlur(
        rng.random((SIDE, SIDE), dtype=np.float32), (0, 0), float(rng.uniform(0.9, 1.8))
    )
    return np.asarray(values, np.float32) + 0.1 * _noise(rng, 4)


def _plaid(rng: Random) -> Floats:
    count = int(rng.integers(8, 18))
    bands = rng.random((2, count), dtype=np.float32)
    a, b = _turned(rng)
    first = bands[0][np.floor(a * count).astype(int) % count]
    return np.asarray(first + bands[1][np.floor(b * count).astype(int) % count], np.float32)


def _scales(rng: Random) -> Floats:
    a, b = _turned(rng)
    frequency = rng.uniform(6, 13)
    row = b * frequency
    column = a * frequency + (np.floor(row) % 2) * np.float32(0.5)
    away = np.hypot(column % 1 - 0.5, row % 1)
    return np.asarray(np.where(away < 0.62, away, 0.3 * away), np.float32)


FAMILIES: tuple[Callable[[Random], Floats], ...] = (
    _mottled,
    _camouflage,
    _stripes,
    _zebra,
    _checks,
    _dots,
    _spots,
    _cells,
    _bricks,
    _fibres,
    _rings,
    _weave,
    _speckle,
    _plaid,
    _scales,
)
NAMES = tuple(function.__name__.removeprefix("_") for function in FAMILIES)
