"""Supports of coloured boxes, and queries with all of their colours."""

from __future__ import annotations

import numpy as np
from helpers.pictures.scenes import GREEN, RED, scene

BLUE = (30, 40, 210)


def shot(colour: tuple[int, int, int], at: int = 20) -> tuple[np.ndarray, np.ndarray]:
    place = (slice(at, at + 80), slice(30, 150))
    mask = np.zeros((128, 192), bool)
    mask[place] = True
    return scene((128, 192), [(colour, place)]), mask


def picture(number: int) -> np.ndarray:
    """A red, a green and a blue box; every number another size and other places."""
    rng = np.random.default_rng(number)
    size = (int(rng.integers(90, 200)), int(rng.integers(90, 200)))
    third = size[1] // 3
    boxes = []
    for index, colour in enumerate((RED, GREEN, BLUE)):
        top = int(rng.integers(0, 30))
        left = index * third
        boxes.append((colour, (slice(top, top + 50), slice(left, left + third - 8))))
    return scene(size, boxes)
