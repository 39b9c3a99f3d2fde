from __future__ import annotations

import numpy as np
import pytest

from hsnet_trt.benchmarks.speed.timing_stats import NOISY, Ratio, ratio, summarise


def test_figures_are_numpys():
    rng = np.random.default_rng(0)
    rounds = [list(rng.gamma(5, 2, size)) for size in (3, 40, 17, 60)]
    found, calls = summarise(rounds), np.concatenate(rounds)
    assert found.calls == 120
    assert found.median == pytest.approx(np.median(calls))
    assert found.p90 == pytest.approx(np.quantile(calls, 0.9))
    assert found.p99 == pytest.approx(np.quantile(calls, 0.99))
    medians = [np.median(times) for times in rounds]
    assert found.rounds == pytest.approx(tuple(medians))
    quarter, three = np.quantile(medians, (0.25, 0.75))
    assert found.spread == pytest.approx((three - quarter) / np.median(medians))


@pytest.mark.parametrize(
    ("rounds", "noisy"),
    [
        ([[100.0]] * 8, False),
        ([[100 + i] for i in range(8)], False),
        ([[100 + 10 * i] for i in range(8)], True),
        ([[100.0, 100.0, 100.0]], True),  # nothing says how it repeats
        ([[100.0]] * 7 + [[900.0]], False),  # one interruption is not a spread
    ],
)
def test_a_spread_is_called_noisy(rounds, noisy):
    found = summarise(rounds)
    assert found.noisy == noisy
    assert len(rounds) == 1 or noisy == (found.spread > NOISY)


def test_what_slows_both_in_a_round_leaves_their_ratio():
    slow = np.array([100, 300, 100, 250, 100, 100, 180, 100.0])
    found = ratio(4 * slow, slow)
    assert found == Ratio(4, 4, 4)


def test_the_interval_holds_the_median_as_often_as_it_says():
    rng = np.random.default_rng(1)
    for count in (6, 8, 11, 20):
        held = 0
        for _ in range(2000):
            found = ratio(3 * rng.lognormal(0, 0.5, count), np.ones(count))
            held += found.low <= 3 <= found.high
        assert held / 2000 > 0.94, count


def test_few_rounds_take_the_whole_range():
    assert ratio([2.0, 4.0, 3.0], [1.0, 1.0, 1.0]) == Ratio(3, 2, 4)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(4.1, 5, "reached"), (3.0, 3.9, "missed"), (3.9, 4.2, "too noisy to say"), (4, 4, "reached")],
)
def test_a_verdict_needs_the_whole_interval(low, high, said):
    assert Ratio((low + high) / 2, low, high).verdict(4) == said
