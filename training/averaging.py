"""The running mean of the trained weights, which scores better than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_YOUNG = 10  # warm-up: after n steps the mean keeps at most n / (n + 10) of itself


class Average:
    """An exponential running mean of parameters."""

    def __init__(self, parameters: Sequence[nn.Parameter], keep: float) -> None:
        """`keep`: share of the mean that a step keeps, 0..1; less in the first steps."""
        self._parameters, self._keep = list(parameters), keep
        self.means = [parameter.detach().clone() for parameter in self._parameters]

    def update(self, step: int) -> None:
        """Update the mean with the parameters after `step` steps."""
        keep = min(self._keep, step / (step + _YOUNG))
        torch._foreach_lerp_(self.means, [p.detach() for p in self._parameters], 1 - keep)

    def load(self, means: Sequence[Tensor]) -> None:
        """Continue from saved means. Raises ValueError if their number differs."""
        for mean, other in zip(self.means, means, strict=True):
            mean.copy_(other)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Use the means as parameters inside the `with` block, then restore the parameters."""
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
