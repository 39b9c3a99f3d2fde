"""What colours say, against counts by hand in float64."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from hsnet_trt.runtime.pictures.colour_model import (
    BINS,
    MOST,
    RAREST,
    SURE,
    WEIGHT,
    colour_evidence,
)


def by_hand(difference: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The evidence for one shot, a position at a time."""
    bins = {
        (y, x): tuple(min(BINS - 1, max(0, math.floor(c * BINS))) for c in colours[:, y, x])
        for y, x in np.ndindex(difference.shape)
    }
    inside = Counter(bins[at] for at in bins if difference[at] > 0)
    outside = Counter(bins[at] for at in bins if difference[at] <= 0)
    weight = WEIGHT * min(1, difference.max() / SURE)
    found = np.zeros(difference.shape)
    for at, colour in bins.items():
        within = inside[colour] / inside.total() + RAREST
        without = outside[colour] / outside.total() + RAREST
        found[at] = weight * max(-MOST, min(MOST, math.log(within / without)))
    return found


def test_it_is_the_log_ratio_of_the_shares_of_a_colour() -> None:
    """Few colours, black, white and rounded beyond them, too."""
    rng = np.random.default_rng(0)
    colours = rng.choice(np.float32([-1e-6, 0.03, 0.3, 0.33, 0.9, 1.0, 1.1]), (3, 14, 17))
    difference = rng.normal(-0.5, 3, (3, 14, 17)).astype(np.float32)
    difference[1] /= 6  # nowhere sure
    assert difference[1].max() < SURE < difference[0].max()
    found = colour_evidence(difference, colours)
    assert found.dtype == np.float32 and found.max() > 0.5 > -0.5 > found.min()
    for shot, evidence in zip(difference, found, strict=True):
        np.testing.assert_allclose(evidence, by_hand(shot, colours), atol=1e-6)


def test_a_things_colour_brings_back_what_of_it_was_missed() -> None:
    """A red square on grey, a quarter of it doubtful, and so is as much of the grey."""
    colours = np.full((3, 40, 40), 0.5, np.float32)
    colours[:, 10:30, 10:30] = np.float32([0.8, 0.1, 0.1])[:, None, None]
    difference = np.full((1, 40, 40), -3, np.float32)
    difference[0, 10:30, 10:30] = 5
    difference[0, 20:30, 20:30] = -0.2
    difference[0, 30:35, 10:30] = 0.2
    found = difference + colour_evidence(difference, colours)
    truth = np.zeros((40, 40), np.bool_)
    truth[10:30, 10:30] = True
    assert ((difference[0] > 0) != truth).sum() == 200
    np.testing.assert_array_equal(found[0] > 0, truth)


@pytest.mark.parametrize("sign", [-1, 1])
def test_where_nothing_or_everything_is_inside_colours_say_nothing(sign: int) -> None:
    colours = np.random.default_rng(0).random((3, 9, 9), np.float32)
    assert not colour_evidence(np.full((2, 9, 9), sign, np.float32), colours).any()
