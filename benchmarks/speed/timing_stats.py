"""Statistics of timings in rounds, which also say when figures are too noisy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NOISY = 0.10  # spread between rounds above which a figure is called noisy
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """Milliseconds of a call, over all rounds."""

    calls: int
    median: float
    p90: float
    p99: float
    spread: float  # of the rounds' medians: interquartile range / median
    noisy: bool  # the spread is above `NOISY`, or there was only one round
    rounds: tuple[float, ...]  # the median of each round


@dataclass(frozen=True)
class Ratio:
    """How many times faster: the median, and its interval at `CONFIDENCE`."""

    median: float
    low: float
    high: float

    def verdict(self, wanted: float) -> str:
        """Whether the ratio is at least `wanted`: "reached", "missed", or "too noisy to say"."""
        if self.low >= wanted:
            return "reached"
        return "missed" if self.high < wanted else "too noisy to say"


def summarise(rounds: Sequence[Sequence[float]]) -> Summary:
    """The statistics of one contender's rounds, each a sequence of calls in milliseconds."""
    calls = np.concatenate([np.asarray(times, float) for times in rounds])
    medians = np.array([np.median(times) for times in rounds])
    low, high = np.percentile(medians, (25, 75))
    spread = float((high - low) / np.median(medians))
    p50, p90, p99 = (float(value) for value in np.percentile(calls, (50, 90, 99)))
    return Summary(
        len(calls),
        p50,
        p90,
        p99,
        spread,
        spread > NOISY or len(rounds) < 2,
        tuple(float(value) for value in medians),
    )


def ratio(slower: Sequence[float], faster: Sequence[float]) -> Ratio:
    """Compare the medians of two contenders round by round, since they ran side by side.

    A temporary slowdown of the machine affects both in the same round. The interval is that of the
    median of the rounds' ratios, from order statistics, so no noise distribution is assumed.
    """
    ratios = np.sort(np.asarray(slower, float) / np.asarray(faster, float))
    skip = _outside(len(ratios))
    return Ratio(float(np.median(ratios)), float(ratios[skip]), float(ratios[-1 - skip]))


def _outside(count: int) -> int:
    """How many values to drop at each end of `count` sorted ones for an interval of the median.

    The rest still holds the median with `CONFIDENCE`; 0 if not even all of them do.
    """
    tail, skip = 0.0, -1
    for k in range((count + 1) // 2):
        tail += math.comb(count, k) / 2**count
        if 2 * tail > 1 - CONFIDENCE:
            break
        skip = k
    return max(skip, 0)
