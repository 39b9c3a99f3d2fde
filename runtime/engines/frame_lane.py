"""Frames that follow each other on the GPU: each in a slot, taken and given back in turn."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hsnet_trt.runtime.engines.frame_slot import Slot
from hsnet_trt.runtime.matching.graphs import FrameAnswer, Tensors
from hsnet_trt.runtime.pictures.images import Pixels


@dataclass(frozen=True)
class Launched:
    """A frame whose work is enqueued on the GPU.

    Attributes:
        slot: its memory.
        size: height and width of the photograph.
        classes: how many classes it is segmented for.
        scores: whether score maps are wanted.
        staged_ms: milliseconds of its copy into page-locked memory.
    """

    slot: Slot
    size: tuple[int, int]
    classes: int
    scores: bool
    staged_ms: float


class FrameWork(Protocol):
    """What a lane needs of the GPU's frames (`frame_pipeline.GpuFrames`)."""

    def make_slot(self) -> Slot:
        """Memory for a frame."""
        ...

    def drop(self, slots: list[Slot]) -> None:
        """Free slots that nothing uses any more."""
        ...

    def start(
        self, slot: Slot, pixels: Pixels, supports: Tensors, shots: Sequence[int], *, scores: bool
    ) -> Launched:
        """Enqueue a frame's work."""
        ...

    def await_done(self, frame: Launched) -> None:
        """Wait until nothing of a frame is left on the GPU."""
        ...

    def finish(self, frame: Launched) -> FrameAnswer:
        """Wait for a frame and read its answer."""
        ...


@dataclass(frozen=True)
class SlotFrame:
    """A frame in its slot, which it gives back to its lane; see `graphs.SubmittedFrame`."""

    lane: Lane
    launched: Launched

    def collect(self) -> FrameAnswer:
        """Wait for the frame's answer.

        Raises:
            BackendError: CUDA failed, or the logits are not finite.
        """
        try:
            return self.lane.frames.finish(self.launched)
        finally:
            self.lane.give_back(self.launched.slot)

    def abandon(self) -> None:
        """Wait for the frame and forget it."""
        try:
            self.lane.frames.await_done(self.launched)
        finally:
            self.lane.give_back(self.launched.slot)


class Lane:
    """Slots for frames that follow each other. Several lanes share the GPU without harm."""

    def __init__(self, frames: FrameWork, slots: int) -> None:
        """Use `GpuFrames.open_lane`."""
        self.frames = frames
        self._free = [frames.make_slot() for _ in range(slots)]
        self._changed = threading.Condition()

    def submit(
        self, pixels: Pixels, supports: Tensors, shots: Sequence[int], *, scores: bool
    ) -> SlotFrame:
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
            launched = self.frames.start(slot, pixels, supports, shots, scores=scores)
        except BaseException:
            self.give_back(slot)
            raise
        return SlotFrame(self, launched)

    def close(self) -> None:
        """Give the free slots back; those under way go when the frames are closed."""
        with self._changed:
            slots, self._free = self._free, []
        self.frames.drop(slots)

    def give_back(self, slot: Slot) -> None:
        """The slot is free for the next frame."""
        with self._changed:
            self._free.append(slot)
            self._changed.notify()
