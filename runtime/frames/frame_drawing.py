"""From a frame's logits to its masks, on the GPU: votes of the shots, then labels and masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.device.memory import Block
from hsnet_trt.runtime.frames.frame_kernels import SETTLE, VOTE, FrameKernels
from hsnet_trt.runtime.frames.frame_slot import Slot
from hsnet_trt.runtime.frames.frame_supports import GpuSupports
from hsnet_trt.runtime.frames.frame_table_cache import TableCache
from hsnet_trt.runtime.pictures.preprocess import Placement


@dataclass(frozen=True)
class OwnLogits:
    """Logits of one shot a class that do not come from the network; see `GpuSupports`."""

    logits: int
    first: int
    chunk: int
    chunk_elements: int


class FrameDrawing:
    """The kernels after the network. Not thread-safe: its owner locks it."""

    def __init__(
        self,
        cuda: Cuda,
        kernels: FrameKernels,
        tables: TableCache,
        decoder: tuple[int, ...],
        dtype: np.dtype[Any],
        stream: Any,
    ) -> None:
        """Set up.

        Args:
            cuda: the driver.
            kernels: the loaded kernels.
            tables: lookup tables by placement.
            decoder: height and width of the logits.
            dtype: type of the logits.
            stream: where the work is queued.
        """
        self._cuda, self._kernels, self._tables = cuda, kernels, tables
        self._decoder, self._dtype, self._stream = decoder, dtype, stream
        self._votes: Block | None = None

    def draw(
        self,
        slot: Slot,
        classes: int,
        supports: GpuSupports | OwnLogits,
        placement: Placement,
    ) -> None:
        """Enqueue it: the answer is in the slot's `answer`, the votes are in its `counts`.

        Args:
            slot: fitted to the frame; its counts are zero.
            classes: how many.
            supports: whose logits are drawn.
            placement: where the frame is in the network's input.
        """
        cuda, (height, width) = self._cuda, placement.source
        tables, _ = self._tables.of(placement)
        needed = 2 * classes * height * width
        if self._votes is None or self._votes.bytes < needed:
            cuda.synchronise(self._stream)
            if self._votes is not None:
                self._votes.free()
                self._votes = None
            self._votes = Block(cuda, {"votes": needed})
        votes, scores = self._votes.at("votes"), slot.address("scores")
        argument = VOTE.pack(
            supports.logits,
            *(tables.at(n) for n in ("low_x", "along_x", "low_y", "along_y")),
            supports.first,
            votes,
            scores,
            slot.counts.address,
            supports.chunk_elements,
            supports.chunk,
            classes,
            *self._decoder,
            height,
            width,
        )
        self._kernels.vote(self._dtype, width, height, argument, self._stream)
        argument = SETTLE.pack(
            votes,
            scores,
            slot.counts.address,
            slot.address("labels"),
            slot.address("masks"),
            classes,
            height * width,
        )
        self._kernels.settle(height * width, argument, self._stream)

    def settle_nothing(self, slot: Slot, size: tuple[int, int]) -> None:
        """Write as many bytes as a mask takes, to time it."""
        count = size[0] * size[1]
        if self._votes is None or self._votes.bytes < 2 * count:
            if self._votes is not None:
                self._votes.free()
                self._votes = None
            self._votes = Block(self._cuda, {"votes": 2 * count})
        self._cuda.zero(slot.counts.address, 8, self._stream)
        argument = SETTLE.pack(
            self._votes.at("votes"), 0, slot.counts.address, slot.address("labels"), 0, 1, count
        )
        self._kernels.settle(count, argument, self._stream)

    def free(self) -> None:
        """Free the memory; no kernel may still use it."""
        if self._votes is not None:
            self._votes.free()
            self._votes = None
