"""Photographs for whole frames, and how near two answers to one of them must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.pictures.scenes import GREEN, RED, scene

LEVEL = 1 / 255 / 0.224  # what one grey level is once normalised


def pictures(count: int) -> list[np.ndarray]:
    """Photographs of several sizes with a red and a green box."""
    sizes = [(128, 192), (97, 141), (201, 90), (64, 64)]
    found = []
    for i in range(count):
        h, w = sizes[i % 4]
        boxes = [
            (RED, (slice(h // 8, h // 2), slice(3 + i, w // 2))),
            (GREEN, (slice(h // 2, h - 5), slice(w // 3, w - i))),
        ]
        found.append(scene((h, w), boxes))
    return found


def assert_alike(one: Any, other: Any, tolerance: float = 2 * LEVEL) -> None:
    """Two segmentations of a frame, by default within what one grey level of the resize makes."""
    assert one.classes == other.classes
    assert one.presence.keys() == set(one.classes)
    assert one.presence == pytest.approx(other.presence, abs=tolerance)
    for name in one.classes:
        if one.scores:
            np.testing.assert_allclose(one.scores[name], other.scores[name], atol=tolerance)
        assert (one.masks[name] != other.masks[name]).mean() < 0.01
        assert one.masks[name].dtype == bool
    assert (one.labels != other.labels).mean() < 0.01 and one.labels.dtype == np.uint8
