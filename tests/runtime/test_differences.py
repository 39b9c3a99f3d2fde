"""Distributions of differences, against NumPy's own words for them."""

import math

import numpy as np

from hsnet_trt.runtime.differences import Differences, flipped


def test_figures():
    rng = np.random.default_rng(0)
    expected = rng.normal(size=(2, 3, 2, 50, 50)).astype(np.float32)
    found = expected.copy()
    found[0, 0, 0, 0, 0] += 7  # one position carries the largest, and not the percentile
    found[:, :, :, :, 1] += 0.25
    apart = Differences.between(found, expected)
    assert math.isclose(apart.largest, 7, rel_tol=1e-4)
    assert math.isclose(apart.p999, 0.25, rel_tol=1e-4)
    assert math.isclose(
        apart.relative(apart.p999), 0.25 / expected.std(dtype=np.float64), rel_tol=1e-4
    )


def test_what_is_not_finite_is_nan_and_never_small():
    expected = np.array([1.0, 2.0, 3.0])
    for bad in (np.nan, np.inf):
        apart = Differences.between(np.array([1.0, bad, 3.0]), expected)
        assert not apart.largest < 1e9
        assert not apart.relative(apart.p999) < 1e9


def test_nothing_and_constants():
    assert Differences.between(np.zeros(0), np.zeros(0)).largest == 0
    same = Differences.between(np.ones(4), np.ones(4))
    assert same.relative(same.largest) == 0
    assert Differences.between(np.zeros(4), np.ones(4)).relative(1.0) == math.inf


def test_flips_are_counted_by_position():
    expected = np.zeros((1, 1, 2, 4, 5), np.float32)
    expected[:, :, 1, :2] = 1
    found = expected.copy()
    found[0, 0, 1, 0, 0] = -1  # foreground no more
    found[0, 0, 1, 3, 3] = 1  # foreground now
    found[0, 0, 0, 1] += 0.5  # another margin, the same class
    assert flipped(found, expected) == 2 / 20
