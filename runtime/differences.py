"""Differences between computed and expected tensors, as a distribution.

The largest of 80,000 logits' differences says little: a single position can cause it. So the 99.9th
percentile and the share of positions that change class are reported too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Differences:
    """|found - expected| of one tensor, in its own unit; NaN if a value is not finite."""

    largest: float
    p999: float  # 99.9th percentile
    spread: float  # standard deviation of the expected values

    @classmethod
    def between(cls, found: Array, expected: Array) -> Differences:
        """Compare two arrays of the same shape, in float64."""
        exact = expected.astype(np.float64)
        differences = np.abs(found.astype(np.float64) - exact)
        if not differences.size:
            return cls(0.0, 0.0, 0.0)
        if not np.isfinite(differences).all():
            return cls(float("nan"), float("nan"), float(exact.std()))
        p999 = float(np.percentile(differences, 99.9))
        return cls(float(differences.max()), p999, float(exact.std()))

    def relative(self, figure: float) -> float:
        """A figure divided by the spread; 0 for a figure of 0, even if the spread is 0."""
        if figure == 0:
            return 0.0
        return figure / self.spread if self.spread > 0 else float("inf")


def flipped(found: Array, expected: Array) -> float:
    """The share of positions whose class differs between logits [...,2,h,w]; in [0,1]."""
    classes = [logits[..., 1, :, :] > logits[..., 0, :, :] for logits in (found, expected)]
    return float((classes[0] != classes[1]).mean())
