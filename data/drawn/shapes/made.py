"""Shapes of man-made things: a vase, a mug, a vehicle, a house, a tool."""

from __future__ import annotations

import numpy as np

from hsnet_trt.data.drawn.shapes.outlines import (
    Part,
    Random,
    box,
    curve,
    ellipse,
    limb,
    mirrored,
)


def vase(rng: Random) -> list[Part]:
    """A vase of random proportions: its parts, in painting order."""
    neck = [rng.uniform(0.12, 0.45), rng.uniform(0.1, 0.3)]
    widths = np.array([*neck, *rng.uniform(0.25, 0.75, 3)])
    ys = np.linspace(-0.97, 0.97, 5)
    profile = curve(np.stack([widths, ys], axis=1), 24)
    parts = [Part(mirrored(profile))]
    k = int(rng.integers(4, 14))
    band = profile[k : k + int(rng.integers(4, 9))]
    parts.append(Part(mirrored(band), 1))
    if rng.random() < 0.5:
        cap = box(0, -0.93, widths[0] * 1.2, 0.08, 6)
        parts.append(Part(cap, 2))
    return parts


def mug(rng: Random) -> list[Part]:
    """A mug of random proportions: its parts, in painting order."""
    wide, tall, loop = rng.uniform(0.35, 0.6), rng.uniform(0.45, 0.85), rng.uniform(0.2, 0.4)
    foot = rng.uniform(0.6, 1.0)
    body = np.array([[-wide, -tall], [wide, -tall], [wide * foot, tall], [-wide * foot, tall]])
    return [
        Part(ellipse(wide, 0, loop, loop * 1.4), int(rng.integers(0, 2))),
        Part(ellipse(wide, 0, loop * 0.6, loop * 0.95), None),
        Part(body),
        Part(ellipse(0, -tall, wide, rng.uniform(0.06, 0.18)), 2),
        Part(box(0, rng.uniform(-0.1, 0.4) * tall, wide * 0.8, rng.uniform(0.1, 0.3), 4), 1),
    ]


def vehicle(rng: Random) -> list[Part]:
    """A vehicle of random proportions: its parts, in painting order."""
    wheel, wheels = rng.uniform(0.15, 0.28), int(rng.integers(2, 4))
    tall, cab = rng.uniform(0.18, 0.4), rng.uniform(0.25, 0.5)
    left, right = sorted(rng.uniform(-0.85, 0.85, 2))
    right = max(right, left + 0.6)
    roof = np.array(
        [[left, 0.1], [left + 0.2, -tall - cab], [right - 0.2, -tall - cab], [right, 0.1]]
    )
    pane = (roof - roof.mean(0)) * 0.7 + roof.mean(0) - (0, 0.08)
    parts = [Part(roof), Part(pane, 2), Part(box(0, 0.2, 0.97, tall, rng.uniform(3, 9)))]
    for x in np.linspace(-0.62, 0.62, wheels):
        parts += [
            Part(ellipse(x, 0.2 + tall, wheel, wheel), 1),
            Part(ellipse(x, 0.2 + tall, wheel * 0.45, wheel * 0.45), 2),
        ]
    return parts


def house(rng: Random) -> list[Part]:
    """A house of random proportions: its parts, in painting order."""
    wide, top = rng.uniform(0.5, 0.85), rng.uniform(-0.3, 0.2)
    over, peak = rng.uniform(1.0, 1.2) * wide, rng.uniform(-0.2, 0.2)
    parts = [
        Part(box(0, (top + 0.95) / 2, wide, (0.95 - top) / 2, 20)),
        Part(np.array([[-over, top], [over, top], [peak, -0.95]]), 1),
    ]
    for x in np.linspace(-0.55, 0.55, int(rng.integers(2, 4))) * wide:
        parts.append(Part(box(x, (top + 0.95) / 2, 0.11, rng.uniform(0.1, 0.2), 12), 2))
    return parts


def tool(rng: Random) -> list[Part]:
    """A tool of random proportions: its parts, in painting order."""
    thick, head = rng.uniform(0.06, 0.14), rng.uniform(0.25, 0.55)
    tip = box(0, -0.65, head, rng.uniform(0.15, 0.32), rng.uniform(1.2, 9))
    parts = [Part(limb((0, -0.6), (0, 0.95), (thick, thick * 1.3)), 1), Part(tip)]
    if rng.random() < 0.5:
        parts.append(Part(ellipse(0, -0.65, head * 0.45, 0.1), None))
    return parts
