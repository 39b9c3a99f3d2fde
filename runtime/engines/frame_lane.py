"""Sends frames through the GPU one after another, a fixed number of them at the same time.

A slot is the memory of one frame in flight (`frame_slot`). A lane is one caller's queue of frames
with its own few slots: a frame takes a free slot when it is submitted and gives it back when its
answer is collected. Each stream of frames has a lane of its own; all lanes share one GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hsnet_trt.runtime.engines.frame_slot import Slot
from hsnet_trt.runtime.matching.graphs import Tensors
from hsnet_trt.runtime.pictures.images import Pixels

if TYPE_CHECKING:
    from hsnet_trt.runtime.engines.frame_pipeline import GpuFrames


@dataclass(frozen=True)
class FrameAnswer:
    """Answer for one frame [H,W]: labels uint8, and for each class a mask and a score map."""

    labels: npt.NDArray[np.uint8]
    masks: list[npt.NDArray[np.bool_]]
    scores: list[npt.NDArray[np.float32]]  # in [0,1]; empty if they were not requested
    timing: dict[str, float]  # milliseconds


@dataclass(frozen=True)
class Ticket:
    """A frame in flight; pass it to `Lane.collect` or `Lane.abandon`, once."""

    slot: Slot
    size: tuple[int, int]
    classes: int
    scores: bool
    staged_ms: float


class Lane:
    """One caller's queue of frames and its slots. Safe to use from several threads."""

    def __init__(self, frames: GpuFrames, slots: int) -> None:
        """Use `GpuFrames.open_lane`."""
        self._frames = frames
        self._free = [frames.make_slot() for _ in range(slots)]
        self._changed = threading.Condition()

    def submit(
        self, pixels: Pixels, supports: Tensors, shots: Sequence[int], *, scores: bool
    ) -> Ticket:
        """Queue a frame on the GPU and return at once; waits only for a free slot.

        Args:
            pixels: uint8 [H,W,3] RGB. A reversed view of BGR pixels, or a view of padded rows, is
                as fast: see `images.view_image`.
            supports: `s2`, `s3`, `s4` of all shots, ordered by class.
            shots: number of shots of each class.
            scores: whether to return score maps, too.

        Raises:
            BackendError: CUDA or TensorRT failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._free)
            slot = self._free.pop()
        try:
            return self._frames.start(slot, pixels, supports, shots, scores=scores)
        except BaseException:
            self._give_back(slot)
            raise

    def collect(self, ticket: Ticket) -> FrameAnswer:
        """Wait for a frame and return its answer; its slot is free afterwards.

        Raises:
            BackendError: CUDA failed, or the logits are not finite.
        """
        try:
            return self._frames.finish(ticket)
        finally:
            self._give_back(ticket.slot)

    def abandon(self, ticket: Ticket) -> None:
        """Wait for a frame and drop its answer; its slot is free afterwards."""
        try:
            self._frames.await_done(ticket)
        finally:
            self._give_back(ticket.slot)

    def close(self) -> None:
        """Free the unused slots; those of frames in flight are freed with the pipeline."""
        with self._changed:
            slots, self._free = self._free, []
        self._frames.drop(slots)

    def _give_back(self, slot: Slot) -> None:
        with self._changed:
            self._free.append(slot)
            self._changed.notify()
