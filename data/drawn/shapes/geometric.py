"""Geometric shapes: blobs, stars, polygons, slabs, gears, rings, crescents, crosses."""

from __future__ import annotations

import numpy as np

from hsnet_trt.data.drawn.shapes.outlines import (
    Part,
    Random,
    box,
    ellipse,
    radial,
)


def blob(rng: Random) -> list[Part]:
    """A blob of random proportions: its parts, in painting order."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.ones(64)
    for k in range(1, 6):
        radius += rng.normal(0, 0.35 / k) * np.cos(k * t + rng.uniform(0, 6.28))
    body = radial(np.clip(radius, 0.35, None) / max(radius.max(), 1) * 0.95)
    patch = ellipse(*rng.uniform(-0.3, 0.3, 2), *rng.uniform(0.12, 0.35, 2))
    return [Part(body), Part(patch, 1)] if rng.random() < 0.6 else [Part(body)]


def star(rng: Random) -> list[Part]:
    """A star of random proportions: its parts, in painting order."""
    tips, inner = int(rng.integers(4, 10)), rng.uniform(0.3, 0.65)
    body = radial(np.tile([0.98, inner], tips))
    return [Part(body), Part(ellipse(0, 0, inner * 0.5, inner * 0.5), 1)]


def polygon(rng: Random) -> list[Part]:
    """A polygon of random proportions: its parts, in painting order."""
    sides = int(rng.integers(3, 8))
    body = radial(rng.uniform(0.75, 1.0, sides))
    return [Part(body), Part(body * rng.uniform(0.3, 0.65), int(rng.integers(0, 2)))]


def slab(rng: Random) -> list[Part]:
    """A slab of random proportions: its parts, in painting order."""
    width, height = rng.uniform(0.4, 0.95), rng.uniform(0.4, 0.95)
    parts = [Part(box(0, 0, width, height, rng.uniform(3, 12)))]
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(-0.5, 0.5) * width, rng.uniform(-0.5, 0.5) * height
        size = rng.uniform(0.1, 0.4, 2) * (width, height)
        parts.append(Part(box(x, y, size[0], size[1], rng.uniform(2, 9)), int(rng.integers(1, 3))))
    return parts


def gear(rng: Random) -> list[Part]:
    """A gear of random proportions: its parts, in painting order."""
    teeth, depth = int(rng.integers(6, 15)), rng.uniform(0.68, 0.86)
    hole = rng.uniform(0.15, 0.45)
    body = radial(np.tile([0.97, 0.97, depth, depth], teeth))
    rim = Part(ellipse(0, 0, hole + 0.14, hole + 0.14), 1)
    return [Part(body), rim, Part(ellipse(0, 0, hole, hole), None)]


def ring(rng: Random) -> list[Part]:
    """A ring of random proportions: its parts, in painting order."""
    wide, tall = rng.uniform(0.6, 0.98, 2)
    inner = rng.uniform(0.4, 0.72)
    hole = ellipse(0, 0, wide * inner, tall * inner)
    parts = [Part(ellipse(0, 0, wide, tall)), Part(hole, None)]
    gem = ellipse(0, -tall * 0.9, *rng.uniform(0.12, 0.28, 2))
    return [*parts, Part(gem, 1)] if rng.random() < 0.7 else parts


def crescent(rng: Random) -> list[Part]:
    """A crescent of random proportions: its parts, in painting order."""
    shift, inner = rng.uniform(0.25, 0.5), rng.uniform(0.65, 0.85)
    parts = [Part(ellipse(0, 0, 0.95, 0.95)), Part(ellipse(shift, 0, inner, inner), None)]
    dot = Part(ellipse(0.35, 0, *rng.uniform(0.12, 0.3, 2)), 1, (0.3, 0.0), 0.3)
    return [*parts, dot] if rng.random() < 0.5 else parts


def cross(rng: Random) -> list[Part]:
    """A cross of random proportions: its parts, in painting order."""
    width, middle = rng.uniform(0.14, 0.32, 2)
    up = rng.uniform(-0.5, 0.3)
    parts = [Part(box(0, 0, width, 0.95, 9)), Part(box(0, up, rng.uniform(0.5, 0.95), middle, 9))]
    if rng.random() < 0.6:
        parts.append(Part(box(0, rng.uniform(0.4, 0.8), rng.uniform(0.3, 0.7), 0.14, 9), 1))
    return parts
