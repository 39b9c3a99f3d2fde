"""Drawing: objects with materials and shading, and cluttered backgrounds."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from hsnet_trt.data.drawn import textures
from hsnet_trt.data.drawn.shapes import outlines
from hsnet_trt.data.drawn.textures import Palette

Random = np.random.Generator
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

_MARGIN = 3  # pixels around an object's bounding box
_BITS = 3  # fractional bits of polygon corners
_BANK = 24  # patterns per family for backgrounds
_COLOURS = 1024  # palettes for backgrounds


@dataclass(frozen=True)
class Material:
    """A pattern and its colours; `scale`: share of the pattern that an object's length spans."""

    family: int
    key: int
    palette: Palette
    scale: float


@dataclass(frozen=True)
class Thing:
    """A drawn object: what all its views have in common.

    Attributes:
        parts: its outline (see outlines).
        materials: three, which the parts refer to by index.
        bulge: 0 is a flat card, 1 is round up to the middle.
        gloss: strength of the highlight, 0..1.
        ink: darkness of the lines around its parts, 0..1.
    """

    parts: tuple[outlines.Part, ...]
    materials: tuple[Material, Material, Material]
    bulge: float
    gloss: float
    ink: float


@dataclass(frozen=True)
class Cutout:
    """A picture to paste: colour float32 [h, w, 3] in 0..255, alpha float32 [h, w] in 0..1."""

    colour: Floats
    alpha: Floats


def draw_light(rng: Random) -> Floats:
    """A random direction of light: a unit vector (x right, y down, z to the camera)."""
    light = np.array([rng.normal(0, 0.6), rng.normal(-0.5, 0.4), rng.uniform(0.7, 1.3)], np.float32)
    return np.asarray(light / np.linalg.norm(light), np.float32)


def draw_thing(thing: Thing, length: float, light: Floats, rng: Random) -> Cutout:
    """One random view of a thing, with a longer side of `length` pixels."""
    posed, turn = outlines.pose(thing.parts, rng)
    solid = np.concatenate([outline for outline, material in posed if material is not None])
    low, high = solid.min(axis=0), solid.max(axis=0)
    scale = length / float((high - low).max())
    width, height = (int(v) for v in np.ceil((high - low) * scale) + 2 * _MARGIN)
    alpha = np.zeros((height, width), np.uint8)
    owner = np.zeros((height, width), np.uint8)
    ink = np.zeros((height, width), np.uint8)
    for outline, material in posed:
        corners = np.rint(((outline - low) * scale + _MARGIN) * (1 << _BITS)).astype(np.int32)
        if material is None:
            cv2.fillPoly(alpha, [corners], 0, cv2.LINE_AA, _BITS)
            continue
        cv2.fillPoly(alpha, [corners], 255, cv2.LINE_AA, _BITS)
        cv2.fillPoly(owner, [corners], material, cv2.LINE_8, _BITS)
        if thing.ink:
            cv2.fillPoly(ink, [corners], 0, cv2.LINE_AA, _BITS)
            cv2.polylines(ink, [corners], True, 255, 1, cv2.LINE_AA, _BITS)
    # No two views of an object have exactly the same colours.
    gain = np.exp(rng.normal(0, 0.09) + rng.normal(0, 0.05, 3)).astype(np.float32)
    zoom = float(np.exp(rng.normal(0, 0.12)))
    colour = None
    for number in sorted({material for _, material in posed if material is not None}):
        made_of = thing.materials[number]
        step = textures.SIDE * made_of.scale / length * zoom
        seen = _sample(made_of, (height, width), step, turn, rng)
        painted = textures.paint(seen, made_of.palette, gain)
        if colour is None:
            colour = painted
        else:
            cv2.copyTo(painted, (owner == number).view(np.uint8), colour)
    assert colour is not None, "an object has at least one part that is no hole"
    shade, highlight = _shade(alpha, thing, length, light)
    if thing.ink:
        shade *= 1 - ink * np.float32(thing.ink / 255)
    cv2.multiply(colour, cv2.merge([shade] * 3), dst=colour)
    if highlight is not None:
        cv2.add(colour, cv2.merge([highlight] * 3), dst=colour)
    return Cutout(colour, alpha * np.float32(1 / 255))


def _sample(
    made_of: Material, size: tuple[int, ...], step: float, turn: float, rng: Random
) -> Bytes:
    """Sample a rotated pattern at a random offset, `step` pattern pixels per pixel."""
    halvings = int(np.clip(round(np.log2(step)), 0, 4))
    pattern, step = textures.smaller(made_of.family, made_of.key, halvings), step / (1 << halvings)
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) * step
    # Outside its borders the pattern is mirrored. It is padded first, because warpAffine takes
    # three times as long when it has to compute the border itself.
    reach = turned @ [[0, size[1], 0, size[1]], [0, 0, size[0], size[0]]]
    offset = rng.uniform(0, len(pattern), 2)
    before = np.maximum(0, np.ceil(-(offset + reach.min(1)))).astype(int) + 2
    after = np.maximum(0, np.ceil(offset + reach.max(1)) - len(pattern)).astype(int) + 2
    wide = cv2.copyMakeBorder(
        pattern, before[1], after[1], before[0], after[0], cv2.BORDER_REFLECT_101
    )
    into = np.concatenate([turned, (offset + before)[:, None]], axis=1)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(wide, into, (size[1], size[0]), flags=how), np.uint8)


def _shade(
    alpha: Bytes, thing: Thing, length: float, light: Floats
) -> tuple[Floats, Floats | None]:
    """Shade a body that bulges from its outline to its middle: (brightness, highlight or None)."""
    inside = cv2.distanceTransform((alpha > 127).astype(np.uint8), cv2.DIST_L2, 3)
    radius = max(2.0, 0.25 * length * thing.bulge)
    rise = np.clip(inside / radius, 0, 1)
    height = cv2.GaussianBlur(np.sqrt(rise * (2 - rise)) * radius, (0, 0), 1.0 + length / 80)
    x = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125)
    y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    facing = (light[2] - x * light[0] - y * light[1]) / np.sqrt(1 + x * x + y * y)
    facing = np.asarray(facing, np.float32)
    shade = np.asarray(0.45 + 0.65 * np.clip(facing, 0, None), np.float32)
    if not thing.gloss:
        return shade, None
    bright = np.clip(facing, 0, 1)
    for _ in range(4):  # 16th power; a general power takes as long as everything else
        bright = bright * bright
    return shade, bright * np.float32(thing.gloss * 220)


def paste(
    canvas: Floats, cutout: Cutout, centre: tuple[float, float], shadow: float
) -> tuple[slice, slice, npt.NDArray[np.bool_]] | None:
    """Paste onto float32 [H, W, 3] in place.

    Args:
        canvas: the picture.
        cutout: the piece to paste.
        centre: (row, column) of its middle.
        shadow: darkness of the shadow it casts, 0..1.

    Returns:
        rows and columns of the canvas, and bool [h, w] where they are covered; None if the piece is
        outside.
    """
    place = window(canvas.shape[:2], cutout.alpha.shape, centre)
    if place is None:
        return None
    rows, columns, cut = place
    # OpenCV's three-channel arithmetic takes a third of the time of NumPy's broadcasting.
    alpha = cutout.alpha[cut]
    under = canvas[rows, columns]
    if shadow:
        size = 0.06 * max(cutout.alpha.shape)
        soft = cv2.GaussianBlur(cutout.alpha, (0, 0), max(1.0, size))
        soft = np.roll(soft, (int(size), int(size * 0.5)), (0, 1))[cut]
        dark = 1 - np.float32(shadow) * soft
        under = np.asarray(cv2.multiply(under, cv2.merge([dark] * 3)), np.float32)
    over = cv2.subtract(cutout.colour[cut], under)
    canvas[rows, columns] = cv2.add(under, cv2.multiply(over, cv2.merge([alpha] * 3)))
    return rows, columns, alpha > 0.5


def window(
    canvas: tuple[int, ...], piece: tuple[int, ...], centre: tuple[float, float]
) -> tuple[slice, slice, tuple[slice, slice]] | None:
    """The rows and columns of the canvas that a piece covers, and the slices of that part of it.

    None if the piece is outside.
    """
    into, cut = [], []
    for whole, size, middle in zip(canvas, piece, centre, strict=False):
        first = round(middle - size / 2)
        start, stop = max(0, first), min(whole, first + size)
        if start >= stop:
            return None
        into.append(slice(start, stop))
        cut.append(slice(start - first, stop - first))
    return into[0], into[1], (cut[0], cut[1])


def background(
    rng: Random, size: tuple[int, int], bank: int, palette: Palette | None = None
) -> Floats:
    """Draw a cluttered background, float32 [H, W, 3] in 0..255.

    Args:
        rng: random numbers.
        size: (height, width).
        bank: number of the set of patterns to draw from.
        palette: colours that a part of it has; None leaves all colours to chance.
    """
    if rng.random() < 0.5:
        return _clutter(rng, size, bank, palette)
    # Out of focus: upscaling from half the resolution blurs, in a quarter of the time.
    small = _clutter(rng, (size[0] // 2, size[1] // 2), bank, palette)
    if rng.random() < 0.5:
        cv2.GaussianBlur(small, (0, 0), rng.uniform(0.4, 1.5) * min(size) / 256, dst=small)
    return np.asarray(cv2.resize(small, (size[1], size[0])), np.float32)


def _clutter(rng: Random, size: tuple[int, int], bank: int, palette: Palette | None) -> Floats:
    height, width = size
    main = _any_palette(rng, bank) if palette is None else palette
    canvas = _surface(rng, size, bank, main)
    if rng.random() < 0.5:  # ground and wall, or sky
        line = int(height * rng.uniform(0.25, 0.75))
        canvas[line:] = _surface(rng, (height - line, width), bank, _any_palette(rng, bank))
    for _ in range(int(rng.integers(0, 8))):
        long = rng.uniform(0.08, 0.5) * min(size)
        corners = int(rng.integers(3, 9))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        radius = rng.uniform(0.4, 1.0, corners) * long * 0.6
        points = np.stack([np.cos(angles) * radius, np.sin(angles) * radius], axis=1)
        half = int(long * 0.6) + 2
        alpha = np.zeros((2 * half, 2 * half), np.uint8)
        if rng.random() < 0.4:
            axes = (int(radius[0]), int(radius[1]))
            cv2.ellipse(
                alpha, (half, half), axes, float(angles[0]) * 57, 0, 360, 255, -1, cv2.LINE_AA
            )
        else:
            cv2.fillPoly(alpha, [np.rint(points + half).astype(np.int32)], 255, cv2.LINE_AA)
        own = palette if palette is not None and rng.random() < 0.5 else _any_palette(rng, bank)
        surface = _surface(rng, alpha.shape, bank, own)
        centre = (rng.uniform(0, height), rng.uniform(0, width))
        paste(canvas, Cutout(surface, alpha * np.float32(1 / 255)), centre, rng.choice([0, 0.4]))
    for _ in range(int(rng.integers(0, 5))):
        ends = (rng.uniform(-0.2, 1.2, (2, 2)) * (width, height)).astype(int).tolist()
        colour = [float(v) for v in rng.uniform(0, 255, 3)]
        cv2.line(canvas, ends[0], ends[1], colour, int(rng.integers(1, 6)), cv2.LINE_AA)
    return canvas


def _surface(rng: Random, size: tuple[int, ...], bank: int, palette: Palette) -> Floats:
    family = int(rng.integers(len(textures.FAMILIES)))
    # Most of a real background is smooth.
    if rng.random() < 0.4:
        family = 0
    key = bank * _BANK + int(rng.integers(_BANK))
    step = textures.SIDE / max(size) * rng.uniform(0.4, 1.6)
    made_of = Material(family, key, palette, 1.0)
    return textures.paint(_sample(made_of, size, step, rng.uniform(0, 6.28), rng), palette)


def _any_palette(rng: Random, bank: int) -> Palette:
    return textures.palette(bank * _COLOURS + int(rng.integers(_COLOURS)))
