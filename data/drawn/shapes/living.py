"""Shapes of living things: a tree, animals, a flower, a mushroom, a figure."""

from __future__ import annotations

import numpy as np

from hsnet_trt.data.drawn.shapes.outlines import (
    Part,
    Random,
    curve,
    ellipse,
    limb,
)


def tree(rng: Random) -> list[Part]:
    """A tree of random proportions: its parts, in painting order."""
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


def animal(rng: Random) -> list[Part]:
    """An animal of random proportions: its parts, in painting order."""
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


def bird(rng: Random) -> list[Part]:
    """A bird of random proportions: its parts, in painting order."""
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


def fish(rng: Random) -> list[Part]:
    """A fish of random proportions: its parts, in painting order."""
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


def snake(rng: Random) -> list[Part]:
    """A snake of random proportions: its parts, in painting order."""
    count = int(rng.integers(4, 7))
    line = np.stack([np.linspace(-0.9, 0.9, count), rng.uniform(-0.8, 0.8, count)], axis=1)
    spine = curve(line)
    along = np.gradient(spine, axis=0)
    side = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.hypot(*along.T)[:, None]
    width = rng.uniform(0.1, 0.2) * np.linspace(0.4, 1, len(spine))[:, None]
    head = ellipse(*spine[-1], *rng.uniform(0.16, 0.28, 2))
    body = np.concatenate([spine + side * width, (spine - side * width)[::-1]])
    return [Part(body), Part(head, 1)]


def flower(rng: Random) -> list[Part]:
    """A flower of random proportions: its parts, in painting order."""
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


def mushroom(rng: Random) -> list[Part]:
    """A mushroom of random proportions: its parts, in painting order."""
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


def figure(rng: Random) -> list[Part]:
    """A figure of random proportions: its parts, in painting order."""
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
