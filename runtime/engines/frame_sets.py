"""Several support sets on the GPU at once, for frames that are matched with them in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hsnet_trt.runtime.engines.frame_supports import GpuSupports
from hsnet_trt.runtime.matching.graphs import Tensors


class SupportSets:
    """The support sets that were matched last. Not thread-safe: the owner's lock guards it.

    Attributes:
        most: how many are kept; where another one is needed, it takes the memory of the oldest.
    """

    def __init__(self, make: Callable[[], GpuSupports]) -> None:
        self._make = make
        self._held: list[tuple[GpuSupports, str]] = []  # the one that was used last at the end
        self.most = 1

    def of(self, supports: Tensors, shots: Sequence[int], stream: Any) -> tuple[GpuSupports, str]:
        """The set on the GPU, uploaded if it is not there yet, and a name of its place.

        Arguments and errors are those of `GpuSupports.hold`.
        """
        for index, (held, _) in enumerate(self._held):
            if held.holds(supports, shots):
                self._held.append(self._held.pop(index))
                return self._held[-1]
        while len(self._held) > self.most:
            self._held.pop(0)[0].free()
        if len(self._held) < self.most:
            taken = {name for _, name in self._held}
            name = next(n for k in range(self.most) if (n := f"match {k}") not in taken)
            self._held.append((self._make(), name))
        else:
            self._held.append(self._held.pop(0))
        self._held[-1][0].hold(supports, shots, stream)
        return self._held[-1]

    def free(self) -> None:
        """Free the memory; no kernel may still use it."""
        for held, _ in self._held:
            held.free()
        self._held.clear()
