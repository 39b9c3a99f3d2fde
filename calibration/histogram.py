"""The distribution of one tensor over any number of samples, in a few kilobytes.

|x| is counted in bins whose width is a power of two. If a value lies beyond the last bin, the width
doubles and neighbouring bins are merged, so no sample is kept and the order of the samples does not
matter. Exact zeros are not counted: INT8 represents them exactly at any scale, and after a ReLU or
outside a mask they would outweigh everything else.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

METHODS = ("minmax", "percentile", "entropy")
BINS = 2048
PERCENTILE = 99.99  # of the non-zero values
MAGNITUDES = 128  # of a signed INT8, 0 to 127
_SAMPLED = 1 << 19  # larger samples are subsampled to about this many values, except the extremes

Counts = npt.NDArray[np.int64]


class Histogram:
    """Extremes of a tensor and the distribution of |x|."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.values = 0  # number of values seen, zeros included
        self.counts: Counts = np.zeros(BINS, np.int64)
        self.exponent: int | None = None  # bins are 2**exponent wide

    def add(self, x: npt.NDArray[Any]) -> None:
        """Count one sample: finite floats of any shape, at least one."""
        flat = x.reshape(-1)
        low, high = float(flat.min()), float(flat.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.values += flat.size
        largest = max(-low, high)
        if largest == 0:
            return
        self._widen(largest)
        assert self.exponent is not None
        if flat.size > _SAMPLED:
            # An odd step visits all channels and positions of tensors with even extents.
            flat = flat[:: (flat.size // _SAMPLED) | 1]
        magnitude = np.abs(flat[flat != 0]).astype(np.float64)
        bins = np.minimum((magnitude * 2.0**-self.exponent).astype(np.int64), BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)

    def thresholds(self) -> dict[str, float]:
        """For each method, the |x| that 127 stands for; 0 if all values are zero."""
        largest = max(-self.low, self.high)
        if largest <= 0 or not self.counts.any():
            return dict.fromkeys(METHODS, max(largest, 0.0))
        assert self.exponent is not None
        width = 2.0**self.exponent
        share = np.cumsum(self.counts) / self.counts.sum()
        percentile = (int(np.searchsorted(share, PERCENTILE / 100)) + 1) * width
        entropy = entropy_bins(self.counts) * width
        return {
            "minmax": largest,
            "percentile": min(percentile, largest),
            "entropy": min(entropy, largest),
        }

    def _widen(self, largest: float) -> None:
        needed = math.frexp(largest)[1] - int(math.log2(BINS))  # largest < BINS * 2**needed
        if self.exponent is None:
            self.exponent = needed
        while self.exponent < needed:
            self.counts = np.concatenate(
                [self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)]
            )
            self.exponent += 1


def entropy_bins(counts: Counts) -> int:
    """How many bins to keep so that 128 levels lose the least information (TensorRT's calibrator).

    P is `counts` cut after i bins, with the rest added to the last one. Q is the first i bins of
    `counts`, merged into 128 levels, each spread evenly over its non-empty bins. Returned is the i
    with the least Kullback-Leibler divergence of Q from P. (S. Migacz, "8-bit Inference with
    TensorRT", GTC 2017.)
    """
    used = int(np.flatnonzero(counts)[-1]) + 1
    best, least = used, math.inf
    for kept in range(MAGNITUDES, used + 1):
        inside = counts[:kept].astype(np.float64)
        level = np.arange(kept) * MAGNITUDES // kept
        filled = inside > 0
        sums = np.bincount(level, inside, MAGNITUDES)
        members = np.maximum(np.bincount(level, filled, MAGNITUDES), 1)
        q = np.where(filled, (sums / members)[level], 0.0)
        p = inside
        p[-1] += counts[kept:].sum()
        if q.sum() == 0:
            continue
        p, q = p / p.sum(), np.maximum(q / q.sum(), 1e-9)  # empty in Q but not in P: a high cost
        there = p > 0
        divergence = float(np.sum(p[there] * np.log(p[there] / q[there])))
        if divergence < least:
            best, least = kept, divergence
    return best
