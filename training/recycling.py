"""Drawn episodes kept on the device and used several times.

A GPU trains many times faster than the CPU cores draw episodes.
"""

from __future__ import annotations

import torch

from hsnet_trt.training.batches import Batch

_BYTES = 4 << 30  # of device memory that the pool may take
_MOST = 65_536  # episodes in the pool


class Pool:
    """A ring buffer of the latest episodes, from which batches are sampled at random.

    Its content depends only on the number of the step, so a resumed run can rebuild it (`refill`)
    and trains on the same batches.
    """

    def __init__(self, size: tuple[int, int], fresh: int, device: torch.device) -> None:
        """`size`: (height, width); `fresh`: new episodes per `put`."""
        per_episode = 8 * size[0] * size[1]  # two images of 3 bytes a pixel and two masks of 1
        self._batches = max(1, min(_MOST, _BYTES // per_episode) // fresh)
        self._fresh = fresh
        self._put = 0
        rows = self._batches * fresh
        self._images = torch.empty(2, rows, 3, *size, dtype=torch.uint8, device=device)
        self._masks = torch.empty(2, rows, *size, dtype=torch.bool, device=device)

    def refill(self, put: int) -> int:
        """Resume after `put` batches. Returns how many of the latest must be put in again."""
        again = min(put, self._batches)
        self._put = put - again
        return again

    def put(self, batch: Batch) -> None:
        """Add `fresh` new episodes; a full pool drops its oldest ones."""
        first = self._put % self._batches * self._fresh
        rows = slice(first, first + self._fresh)
        self._images[:, rows] = batch.images.view(2, -1, *batch.images.shape[1:])
        self._masks[:, rows] = batch.masks.view(2, -1, *batch.masks.shape[1:])
        self._put += 1

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Sample `count` of the stored episodes, with replacement."""
        there = min(self._put, self._batches) * self._fresh
        rows = torch.randint(there, (count,), generator=generator, device=self._images.device)
        return Batch(self._images[:, rows].flatten(0, 1), self._masks[:, rows].flatten(0, 1))
