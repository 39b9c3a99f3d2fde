"""The running mean of the learned weights, which does better than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_YOUNG = 10  # of so many steps, the first ones, the mean keeps less


class Average:
    """An exponential running mean of parameters."""

    def __init__(self, parameters: Sequence[nn.Parameter], keep: float) -> None:
        """`keep`: how much of the mean a step keeps, 0..1; less of a mean of few steps."""
        self._parameters, self._keep = list(parameters), keep
        self.means = [parameter.detach().clone() for parameter in self._parameters]

    def update(self, step: int) -> None:
        """Take in the parameters after `step` steps."""
        keep = min(self._keep, step / (step + _YOUNG))
        torch._foreach_lerp_(self.means, [p.detach() for p in self._parameters], 1 - keep)

    def load(self, means: Sequence[Tensor]) -> None:
        """Go on from other means. Raises ValueError where there are not as many."""
        for mean, other in zip(self.means, means, strict=True):
            mean.copy_(other)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the means in the parameters' place, and the parameters back at the end."""
        learned = [parameter.detach().clone() for parameter in self._parameters]
        try:
            self._fill(self.means)
            yield
        finally:
            self._fill(learned)

    @torch.no_grad()
    def _fill(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)
