"""Contours of masks against a slow search, and cases made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cv2")

from hsnet_trt.data.episodes.contours import boundary_f, contour, contour_tolerance

seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 12)


def noise(rng: np.random.Generator, shape: tuple[int, int], share: float = 0.5) -> np.ndarray:
    return rng.random(shape) < share


def slow_contour(mask: np.ndarray) -> set[tuple[int, int]]:
    height, width = mask.shape
    found = set()
    for row, column in np.ndindex(height, width):
        for r, c in ((row + 1, column), (row, column + 1), (row + 1, column + 1)):
            if r < height and c < width and mask[r, c] != mask[row, column]:
                found.add((row, column))
    return found


def slow_f(answer: np.ndarray, truth: np.ndarray) -> float:
    found, wanted = slow_contour(answer), slow_contour(truth)
    far = contour_tolerance(answer.shape)

    def share(of: set, near: set) -> float:
        if not of:
            return 1.0
        close = [any((r - y) ** 2 + (c - x) ** 2 <= far * far for y, x in near) for r, c in of]
        return float(np.mean(close))

    precision, recall = share(found, wanted), share(wanted, found)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@settings(max_examples=60, deadline=None)
@given(seeds, sides, sides, st.floats(0, 1), st.floats(0, 1))
def test_boundaries_equal_a_slow_search(
    seed: int, height: int, width: int, first: float, second: float
) -> None:
    rng = np.random.default_rng(seed)
    answer, truth = noise(rng, (height, width), first), noise(rng, (height, width), second)
    assert set(zip(*np.nonzero(contour(answer)), strict=True)) == slow_contour(answer)
    assert boundary_f(answer, truth) == pytest.approx(slow_f(answer, truth))
    assert boundary_f(truth, answer) == pytest.approx(boundary_f(answer, truth))


def test_a_contour_may_be_off_by_the_tolerance_and_no_more() -> None:
    size = (240, 320)  # a diagonal of 400: 4 pixels
    assert contour_tolerance(size) == 4

    def half(column: int) -> np.ndarray:
        return np.tile(np.arange(size[1]) < column, (size[0], 1))

    assert boundary_f(half(100), half(104)) == 1
    assert boundary_f(half(100), half(105)) == 0
    assert boundary_f(half(0), half(104)) == 0 and boundary_f(half(0), half(320)) == 1
