"""Frames that follow each other on the GPU: each in a slot, taken and given back in turn."""

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
    """Of one frame [H,W]: labels uint8, and by class masks bool and scores float32."""

    labels: npt.NDArray[np.uint8]
    masks: list[npt.NDArray[np.bool_]]
    scores: list[npt.NDArray[np.float32]]  # empty if they were not asked for
    timing: dict[str, float]  # milliseconds


@dataclass(frozen=True)
class Ticket:
    """A frame under way; hand it to `Lane.collect` once."""

    slot: Slot
    size: tuple[int, int]
    classes: int
    scores: bool
    staged_ms: float


class Lane:
    """Slots for frames that follow each other. Several lanes share the GPU without harm."""

    def __init__(self, frames: GpuFrames, slots: int) -> None:
        """Use `GpuFrames.open_lane`."""
        self._frames = frames
        self._free = [frames.make_slot() for _ in range(slots)]
        self._changed = threading.Condition()

    def submit(
        self, pixels: Pixels, supports: Tensors, shots: Sequence[int], *, scores: bool
    ) -> Ticket:
        """Send a frame on its way; waits only for a free slot.

        Args:
            pixels: uint8 [H,W,3] RGB. A view of BGR pixels, or of rows that lie apart, costs no
                more: see `images.view_image`.
            supports: `s2`, `s3`, `s4` of all shots, class after class.
            shots: how many shots each class has.
            scores: whether the score maps are wanted, too.

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
        """Wait for a frame and take its answer.

        Raises:
            BackendError: CUDA failed, or the logits are not finite.
        """
        try:
            return self._frames.finish(ticket)
        finally:
            self._give_back(ticket.slot)

    def abandon(self, ticket: Ticket) -> None:
        """Wait for a frame and forget it."""
        try:
            self._frames.await_done(ticket)
        finally:
            self._give_back(ticket.slot)

    def close(self) -> None:
        """Give the free slots back; those under way go when the frames are closed."""
        with self._changed:
            slots, self._free = self._free, []
        self._frames.drop(slots)

    def _give_back(self, slot: Slot) -> None:
        with self._changed:
            self._free.append(slot)
            self._changed.notify()
