"""Families of drawn shapes, each a class's own proportions, with parts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hsnet_trt.data.drawn.outlines import (
    Part,
    Random,
    box,
    curve,
    ellipse,
    limb,
    mirrored,
    radial,
)


def build(family: int, key: int) -> tuple[Part, ...]:
    """Build the shape number `key` of a family; the same for the same key."""
    return tuple(FAMILIES[family](np.random.default_rng([key, family, 23])))


def _blob(rng: Random) -> list[Part]:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.ones(64)
    for k in range(1, 6):
        radius += rng.normal(0, 0.35 / k) * np.cos(k * t + rng.uniform(0, 6.28))
    body = radial(np.clip(radius, 0.35, None) / max(radius.max(), 1) * 0.95)
    patch = ellipse(*rng.uniform(-0.3, 0.3, 2), *rng.uniform(0.12, 0.35, 2))
    return [Part(body), Part(patch, 1)] if rng.random() < 0.6 else [Part(body)]


def _star(rng: Random) -> list[Part]:
    tips, inner = int(rng.integers(4, 10)), rng.uniform(0.3, 0.65)
    body = radial(np.tile([0.98, inner], tips))
    return [Part(body), Part(ellipse(0, 0, inner * 0.5, inner * 0.5), 1)]


def _polygon(rng: Random) -> list[Part]:
    sides = int(rng.integers(3, 8))
    body = radial(rng.uniform(0.75, 1.0, sides))
    return [Part(body), Part(body * rng.uniform(0.3, 0.65), int(rng.integers(0, 2)))]


def _slab(rng: Random) -> list[Part]:
    width, height = rng.uniform(0.4, 0.95), rng.uniform(0.4, 0.95)
    parts = [Part(box(0, 0, width, height, rng.uniform(3, 12)))]
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(-0.5, 0.5) * width, rng.uniform(-0.5, 0.5) * height
        size = rng.uniform(0.1, 0.4, 2) * (width, height)
        parts.append(Part(box(x, y, size[0], size[1], rng.uniform(2, 9)), int(rng.integers(1, 3))))
    return parts


def _gear(rng: Random) -> list[Part]:
    teeth, depth = int(rng.integers(6, 15)), rng.uniform(0.68, 0.86)
    hole = rng.uniform(0.15, 0.45)
    body = radial(np.tile([0.97, 0.97, depth, depth], teeth))
    rim = Part(ellipse(0, 0, hole + 0.14, hole + 0.14), 1)
    return [Part(body), rim, Part(ellipse(0, 0, hole, hole), None)]


def _ring(rng: Random) -> list[Part]:
    wide, tall = rng.uniform(0.6, 0.98, 2)
    inner = rng.uniform(0.4, 0.72)
    hole = ellipse(0, 0, wide * inner, tall * inner)
    parts = [Part(ellipse(0, 0, wide, tall)), Part(hole, None)]
    gem = ellipse(0, -tall * 0.9, *rng.uniform(0.12, 0.28, 2))
    return [*parts, Part(gem, 1)] if rng.random() < 0.7 else parts


def _crescent(rng: Random) -> list[Part]:
    shift, inner = rng.uniform(0.25, 0.5), rng.uniform(0.65, 0.85)
    parts = [Part(ellipse(0, 0, 0.95, 0.95)), Part(ellipse(shift, 0, inner, inner), None)]
    dot = Part(ellipse(0.35, 0, *rng.uniform(0.12, 0.3, 2)), 1, (0.3, 0.0), 0.3)
    return [*parts, dot] if rng.random() < 0.5 else parts


def _cross(rng: Random) -> list[Part]:
    width, middle = rng.uniform(0.14, 0.32, 2)
    up = rng.uniform(-0.5, 0.3)
    parts = [Part(box(0, 0, width, 0.95, 9)), Part(box(0, up, rng.uniform(0.5, 0.95), middle, 9))]
    if rng.random() < 0.6:
        parts.append(Part(box(0, rng.uniform(0.4, 0.8), rng.uniform(0.3, 0.7), 0.14, 9), 1))
    return parts


def _tree(rng: Random) -> list[Part]:
    trunk = Part(limb((0, 0.98), (0, -0.2), (rng.uniform(0.08, 0.2), 0.06)), 1)
    if rng.random() < 0.5:  # a fir: stacked triangles
        layers, width = int(rng.integers(2, 5)), rng.uniform(0.5, 0.9)
        parts = [trunk]
        for k in range(layers):
            low = 0.55 - k * 1.1 / layers
            size = width * (1 - 0.75 * k / layers)
            tip = low - 1.5 / layers
            parts.append(Part(np.array([[-size, low], [size, low], [0, max(tip, -0.98)]])))
        return parts
    crowns = [
        Part(
            ellipse(rng.uniform(-0.45, 0.45), rng.uniform(-0.6, 0.0), *rng.uniform(0.3, 0.5, 2)),
            0,
            (0.0, 0.2),
            0.12,
        )
        for _ in range(int(rng.integers(3, 7)))
    ]
    return [trunk, *crowns]


def _animal(rng: Random) -> list[Part]:
    length, depth = rng.uniform(0.45, 0.7), rng.uniform(0.2, 0.36)
    leg, thick = rng.uniform(0.4, 0.75), rng.uniform(0.06, 0.12)
    neck, head = rng.uniform(0.15, 0.6), rng.uniform(0.15, 0.27)
    parts = []
    for k, x in enumerate([-0.8, -0.55, 0.55, 0.8]):
        x0 = x * length
        side = limb((x0, 0.0), (x0, leg + depth * 0.5), (thick * 1.4, thick))
        parts.append(Part(side, 2 if k % 2 else 0, (x0, 0.0), 0.25))
    tip = (-length - rng.uniform(0.15, 0.4), rng.uniform(-0.4, 0.4))
    tail = limb((-length, -0.05), tip, (0.07, 0.03))
    parts.append(Part(tail, 1, (-length, -0.05), 0.5))
    parts.append(Part(ellipse(0, 0, length + 0.08, depth)))
    top = (length * 0.85 + neck * 0.4, -neck)
    throat = limb((length * 0.75, 0.0), top, (depth * 0.6, head * 0.6))
    parts.append(Part(throat, 0, (length, 0), 0.2))
    snout = rng.uniform(0.1, 0.3)
    face = ellipse(top[0] + snout * 0.4, top[1], head * 0.75 + snout * 0.5, head * 0.75, 0.3)
    parts.append(Part(face, int(rng.integers(0, 2)), (length, 0), 0.2))
    ear = rng.uniform(0.12, 0.4)
    parts.append(Part(limb(top, (top[0] - 0.12, top[1] - ear), (0.08, 0.04)), 1, top, 0.3))
    return [Part(p.outline * 0.85, p.material, p.joint, p.swing) for p in parts]


def _bird(rng: Random) -> list[Part]:
    body, tall = rng.uniform(0.4, 0.6), rng.uniform(0.22, 0.4)
    head = rng.uniform(0.15, 0.25)
    beak = rng.uniform(0.12, 0.35)
    x, y = body * 0.95, -tall * 0.9
    wing = limb((0.1, -0.05), (-0.35, rng.uniform(-0.95, 0.3)), (rng.uniform(0.18, 0.3), 0.05))
    fan = rng.uniform(0.1, 0.3)
    tail = np.array([[-body * 0.7, 0], [-0.98, -fan], [-0.98, fan]])
    legs = [
        Part(
            limb((k, tall * 0.7), (k, tall + rng.uniform(0.2, 0.4)), (0.035, 0.03)),
            2,
            (k, tall),
            0.3,
        )
        for k in (-0.08, 0.12)
    ]
    return [
        *legs,
        Part(tail, 1, (-body * 0.7, 0.0), 0.25),
        Part(ellipse(0, 0, body, tall, -0.25)),
        Part(np.array([[x, y - 0.07], [x, y + 0.07], [x + head + beak, y]]), 2),
        Part(ellipse(x * 0.9, y, head, head), int(rng.integers(0, 2))),
        Part(wing, 1, (0.1, -0.05), 0.35),
    ]


def _fish(rng: Random) -> list[Part]:
    long, tall = rng.uniform(0.5, 0.7), rng.uniform(0.2, 0.5)
    fork, wide = rng.uniform(0.0, 0.2), rng.uniform(0.2, 0.5)
    x = -long * 0.8
    tail = np.array([[x, 0], [-0.97, -wide], [-0.97 + fork, 0], [-0.97, wide]])
    tip = -tall - rng.uniform(0.1, 0.4)
    fin = np.array([[0.25, -tall * 0.8], [-0.35, -tall * 0.7], [-0.3, tip]])
    return [
        Part(tail, 1, (x, 0.0), 0.3),
        Part(fin, 1),
        Part(fin * (1, -1), 1),
        Part(ellipse(0.1, 0, long, tall)),
        Part(ellipse(0.1 + long * 0.65, -tall * 0.2, 0.07, 0.07), 2),
    ]


def _vase(rng: Random) -> list[Part]:
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


def _mug(rng: Random) -> list[Part]:
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


def _vehicle(rng: Random) -> list[Part]:
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


def _snake(rng: Random) -> list[Part]:
    count = int(rng.integers(4, 7))
    line = np.stack([np.linspace(-0.9, 0.9, count), rng.uniform(-0.8, 0.8, count)], axis=1)
    spine = curve(line)
    along = np.gradient(spine, axis=0)
    side = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.hypot(*along.T)[:, None]
    width = rng.uniform(0.1, 0.2) * np.linspace(0.4, 1, len(spine))[:, None]
    head = ellipse(*spine[-1], *rng.uniform(0.16, 0.28, 2))
    body = np.concatenate([spine + side * width, (spine - side * width)[::-1]])
    return [Part(body), Part(head, 1)]


def _flower(rng: Random) -> list[Part]:
    petals, long = int(rng.integers(4, 10)), rng.uniform(0.25, 0.36)
    wide, core = rng.uniform(0.5, 1.0) * 1.9 / petals, rng.uniform(0.15, 0.3)
    parts = []
    if rng.random() < 0.5:
        parts = [Part(limb((0, 0), (rng.uniform(-0.2, 0.2), 1.3), (0.05, 0.05)), 2)]
    for k in range(petals):
        angle = 2 * np.pi * k / petals
        centre = (np.cos(angle) * (core + long * 0.8), np.sin(angle) * (core + long * 0.8))
        parts.append(Part(ellipse(*centre, long, min(wide, long), angle), 0, (0.0, 0.0), 0.08))
    return [*parts, Part(ellipse(0, 0, core, core), 1)]


def _mushroom(rng: Random) -> list[Part]:
    wide, tall = rng.uniform(0.6, 0.97), rng.uniform(0.45, 0.9)
    stem = rng.uniform(0.1, 0.35)
    t = np.linspace(np.pi, 2 * np.pi, 24)
    cap = np.stack([np.cos(t) * wide, np.sin(t) * tall], axis=1)
    cap[:, 1] += rng.uniform(-0.1, 0.2)
    foot = limb((0, -0.1), (0, 0.85), (stem * rng.uniform(0.6, 1), stem))
    spots = [
        Part(ellipse(rng.uniform(-0.5, 0.5) * wide, rng.uniform(-0.6, -0.1) * tall, 0.09, 0.08), 2)
        for _ in range(int(rng.integers(0, 5)))
    ]
    return [Part(foot, 1), Part(cap), *spots]


def _figure(rng: Random) -> list[Part]:
    head, wide, hip = rng.uniform(0.13, 0.22), rng.uniform(0.2, 0.38), rng.uniform(0.12, 0.3)
    thick = rng.uniform(0.07, 0.11)
    parts = []
    for k in (-1, 1):
        x, y = k * hip * 0.6, 0.2
        parts.append(Part(limb((x, y), (x * 1.3, 0.95), (thick * 1.3, thick)), 1, (x, y), 0.25))
    parts.append(Part(np.array([[-wide, -0.5], [wide, -0.5], [hip, 0.3], [-hip, 0.3]])))
    for k in (-1, 1):
        x = k * wide * 0.9
        arm = limb((x, -0.42), (x + k * 0.3, rng.uniform(-0.2, 0.2)), (thick, thick * 0.8))
        parts.append(Part(arm, int(rng.integers(0, 2)), (x, -0.42), 0.6))
    parts.append(Part(ellipse(0, -0.5 - head, head, head * 1.2), 2))
    return parts


def _house(rng: Random) -> list[Part]:
    wide, top = rng.uniform(0.5, 0.85), rng.uniform(-0.3, 0.2)
    over, peak = rng.uniform(1.0, 1.2) * wide, rng.uniform(-0.2, 0.2)
    parts = [
        Part(box(0, (top + 0.95) / 2, wide, (0.95 - top) / 2, 20)),
        Part(np.array([[-over, top], [over, top], [peak, -0.95]]), 1),
    ]
    for x in np.linspace(-0.55, 0.55, int(rng.integers(2, 4))) * wide:
        parts.append(Part(box(x, (top + 0.95) / 2, 0.11, rng.uniform(0.1, 0.2), 12), 2))
    return parts


def _tool(rng: Random) -> list[Part]:
    thick, head = rng.uniform(0.06, 0.14), rng.uniform(0.25, 0.55)
    tip = box(0, -0.65, head, rng.uniform(0.15, 0.32), rng.uniform(1.2, 9))
    parts = [Part(limb((0, -0.6), (0, 0.95), (thick, thick * 1.3)), 1), Part(tip)]
    if rng.random() < 0.5:
        parts.append(Part(ellipse(0, -0.65, head * 0.45, 0.1), None))
    return parts


FAMILIES: tuple[Callable[[Random], list[Part]], ...] = (
    _blob,
    _star,
    _polygon,
    _slab,
    _gear,
    _ring,
    _crescent,
    _cross,
    _tree,
    _animal,
    _bird,
    _fish,
    _vase,
    _mug,
    _vehicle,
    _snake,
    _flower,
    _mushroom,
    _figure,
    _house,
    _tool,
)
NAMES = tuple(function.__name__.removeprefix("_") for function in FAMILIES)
