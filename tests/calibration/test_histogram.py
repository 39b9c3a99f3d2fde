from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hsnet_trt.calibration.histogram import BINS, PERCENTILE, Histogram, entropy_bins

arrays = hnp.arrays(
    np.float32, st.integers(1, 40), elements=st.floats(-(2.0**40), 2.0**40, width=32)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(arrays, min_size=1, max_size=6))
def test_extremes_are_exact_and_no_value_is_lost(samples):
    histogram = Histogram()
    for sample in samples:
        histogram.add(sample)
    everything = np.concatenate(samples)
    assert (histogram.low, histogram.high) == (everything.min(), everything.max())
    assert histogram.values == everything.size
    assert histogram.counts.sum() == np.count_nonzero(everything)
    largest = float(np.abs(everything).max())
    assert all(0 <= t <= largest for t in histogram.thresholds().values())
    assert histogram.thresholds()["minmax"] == largest


@settings(max_examples=40, deadline=None)
@given(st.permutations([2.0**-9, 0.3, 1.0, 5.0, 1000.0]))
def test_the_order_of_samples_does_not_matter(values):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(500).astype(np.float32)
    histogram, other = Histogram(), Histogram()
    for value in values:
        histogram.add(noise * np.float32(value))
    for value in sorted(values):
        other.add(noise * np.float32(value))
    assert histogram.exponent == other.exponent
    assert np.array_equal(histogram.counts, other.counts)


def test_percentile_is_numpys_within_a_bin():
    rng = np.random.default_rng(1)
    samples = [rng.laplace(size=20_000).astype(np.float32) for _ in range(10)]
    histogram = Histogram()
    for sample in samples:
        histogram.add(np.concatenate([sample, np.zeros(5000, np.float32)]))
    expected = np.percentile(np.abs(np.concatenate(samples)), PERCENTILE)
    assert histogram.exponent is not None
    found = histogram.thresholds()["percentile"]
    assert abs(found - expected) <= 2 * 2.0**histogram.exponent


def test_large_tensors_are_sampled_evenly():
    rng = np.random.default_rng(2)
    values = np.abs(rng.standard_normal(3_000_000)).astype(np.float32)
    values[1234] = 9.0  # an extreme that the sample misses is still the extreme
    histogram = Histogram()
    histogram.add(values)
    assert histogram.high == 9.0
    assert histogram.thresholds()["percentile"] == pytest.approx(
        np.percentile(values, PERCENTILE), rel=0.1
    )


def test_all_zero():
    histogram = Histogram()
    histogram.add(np.zeros((3, 4), np.float32))
    assert set(histogram.thresholds().values()) == {0.0}


def _slow_entropy(counts: np.ndarray) -> int:
    """The same rule, one bin at a time."""
    used = int(np.flatnonzero(counts)[-1]) + 1
    divergences = {}
    for kept in range(128, used + 1):
        p = [float(c) for c in counts[:kept]]
        groups: dict[int, list[int]] = {}
        for index in range(kept):
            groups.setdefault(index * 128 // kept, []).append(index)
        q = [0.0] * kept
        for members in groups.values():
            filled = [i for i in members if counts[i]]
            for i in filled:
                q[i] = sum(counts[j] for j in members) / len(filled)
        p[-1] += float(counts[kept:].sum())
        total_p, total_q = sum(p), sum(q)
        if total_q:
            divergences[kept] = sum(
                a / total_p * math.log((a / total_p) / max(b / total_q, 1e-9))
                for a, b in zip(p, q, strict=True)
                if a
            )
    return min(divergences, key=lambda kept: (round(divergences[kept], 12), kept))


@pytest.mark.parametrize("seed", [0, 1])
def test_entropy_is_the_slow_rule(seed):
    rng = np.random.default_rng(seed)
    values = np.abs(rng.standard_t(3, 4000))
    counts = np.zeros(BINS, np.int64)
    counts[:400] = np.histogram(values, 400)[0]
    assert entropy_bins(counts) == _slow_entropy(counts)


def test_entropy_cuts_a_long_tail_and_keeps_a_flat_spread():
    flat = np.zeros(BINS, np.int64)
    flat[:1024] = 1000
    assert entropy_bins(flat) == 1024
    rng = np.random.default_rng(3)
    tailed = np.histogram(np.abs(rng.standard_normal(200_000)), BINS, (0, 40))[0]
    tailed[-1] += 1
    assert entropy_bins(tailed.astype(np.int64)) < BINS // 2
