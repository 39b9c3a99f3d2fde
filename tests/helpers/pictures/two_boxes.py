"""A query of a red and a green box, for the bundle that segments by colour."""

from __future__ import annotations

import numpy as np
from helpers.pictures.scenes import GREEN, RED, scene

Shot = tuple[np.ndarray, np.ndarray]
PLACE = (slice(100, 200), slice(50, 150))
QUERY = scene((300, 200), [(RED, PLACE), (GREEN, (slice(220, 290), slice(20, 180)))])


def overlap(mask: np.ndarray, place: tuple[slice, slice]) -> float:
    truth = np.zeros(mask.shape, bool)
    truth[place] = True
    return (mask & truth).sum() / (mask | truth).sum()
