"""Drawn episodes kept on the device and used several times.

A GPU learns from episodes many times faster than processors draw them.
"""

from __future__ import annotations

import torch

from hsnet_trt.training.batches import Batch

_BYTES = 4 << 30  # of the device's memory that waiting episodes may take
_MOST = 65_536  # episodes


class Pool:
    """A ring of the last episodes drawn, from which batches are drawn at random.

    Its content at a step depends on the number of the step alone, so a resumed run can fill it
    again (`refill`) and learns the same.
    """

    def __init__(self, size: tuple[int, int], fresh: int, device: torch.device) -> None:
        """`size`: (height, width); `fresh`: new episodes in each batch that is put in."""
        per_episode = 8 * size[0] * size[1]  # two images of 3 bytes a pixel and two masks of 1
        self._batches = max(1, min(_MOST, _BYTES // per_episode) // fresh)
        self._fresh = fresh
        self._put = 0
        rows = self._batches * fresh
        self._images = torch.empty(2, rows, 3, *size, dtype=torch.uint8, device=device)
        self._masks = torch.empty(2, rows, *size, dtype=torch.bool, device=device)

    def refill(self, put: int) -> int:
        """Resume after `put` batches: how many of the last ones must be put in again."""
        again = min(put, self._batches)
        self._put = put - again
        return again

    def put(self, batch: Batch) -> None:
        """Add `fresh` new episodes; a full pool drops its oldest ones for them."""
        first = self._put % self._batches * self._fresh
        rows = slice(first, first + self._fresh)
        self._images[:, rows] = batch.images.view(2, -1, *batch.images.shape[1:])
        self._masks[:, rows] = batch.masks.view(2, -1, *batch.masks.shape[1:])
        self._put += 1

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Draw `count` of the stored episodes at random, with replacement."""
        there = min(self._put, self._batches) * self._fresh
        rows = torch.randint(there, (count,), generator=generator, device=self._images.device)
        return Batch(self._images[:, rows].flatten(0, 1), self._masks[:, rows].flatten(0, 1))
