"""Sends frames through the GPU one after another, a fixed number of them at the same time.

A slot is the memory of one frame in flight (`frame_slot`). A lane is one caller's queue of frames
with its own few slots: a frame takes a free slot when it is submitted and gives it back when its
answer is collected. Each stream of frames has a lane of its own; all lanes share one GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hsnet_trt.runtime.frames.frame_slot import Slot
from hsnet_trt.runtime.matching.graphs import Tensors
from hsnet_trt.runtime.matching.runner import FrameAnswer
from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.pictures.preprocess import Floats
from hsnet_trt.runtime.pictures.window import Window


@dataclass(frozen=True)
class Launched:
    """A frame whose work is enqueued on the GPU.

    Attributes:
        slot: its memory.
        size: height and width of the matched photograph or window.
        drawn: height and width of the masks, which are the whole photograph's.
        classes: how many classes it is segmented for.
        shots: how many shots they have together.
        scores: whether score maps are wanted.
        staged_ms: milliseconds of host copies before its first stripe is uploaded.
    """

    slot: Slot
    size: tuple[int, int]
    drawn: tuple[int, int]
    classes: int
    shots: int
    scores: bool
    staged_ms: float


class FrameWork(Protocol):
    """What a lane needs of the GPU's frames (`frame_pipeline.GpuFrames`)."""

    def make_slot(self, *, refine: bool = False) -> Slot:
        """Memory for a frame, whose masks are refined or not."""
        ...

    def drop(self, slots: list[Slot]) -> None:
        """Free slots that nothing uses any more."""
        ...

    def start(
        self, slot: Slot, pixels: Pixels, supports: Tensors, shots: Sequence[int], *, scores: bool
    ) -> Launched:
        """Enqueue a frame's work."""
        ...

    def start_match(
        self,
        slot: Slot,
        pixels: Pixels,
        supports: Tensors,
        shots: Sequence[int],
        window: Window | None,
    ) -> Launched:
        """Enqueue a frame's work up to its logits."""
        ...

    def read_match(self, frame: Launched) -> tuple[Floats, Floats]:
        """Wait for the logits of a frame's shots, and the matches of their objects' vectors."""
        ...

    def features(self, frame: Launched) -> Tensors:
        """The features of a frame that is not drawn yet."""
        ...

    def draw(self, frame: Launched, logits: Floats, *, scores: bool) -> Launched:
        """Enqueue the drawing of other logits."""
        ...

    def await_done(self, frame: Launched) -> None:
        """Wait until the GPU has finished a frame."""
        ...

    def finish(self, frame: Launched) -> FrameAnswer:
        """Wait for a frame and read its answer."""
        ...


@dataclass(frozen=True)
class SlotFrame:
    """A frame in its slot, which it gives back to its lane; see `runner.SubmittedFrame`."""

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


@dataclass(frozen=True)
class SlotMatch:
    """A frame in its slot that was matched; see `runner.MatchedOnGpu`."""

    lane: Lane
    launched: Launched
    logits: Floats
    matches: Floats

    @property
    def features(self) -> Tensors:
        """`f2`, `f3`, `f4`, each [1,L,C,row]."""
        return self.lane.frames.features(self.launched)

    def draw(self, logits: Floats, *, scores: bool) -> FrameAnswer:
        """Draw other logits, [classes,2,h,w], and give the slot back.

        Raises:
            BackendError: CUDA failed.
        """
        try:
            frames = self.lane.frames
            return frames.finish(frames.draw(self.launched, logits, scores=scores))
        finally:
            self.lane.give_back(self.launched.slot)

    def abandon(self) -> None:
        """Give the slot back."""
        self.lane.give_back(self.launched.slot)


class Lane:
    """One caller's queue of frames and its slots. Safe to use from several threads."""

    def __init__(self, frames: FrameWork, slots: int, *, refine: bool = False) -> None:
        """Use `GpuFrames.open_lane`."""
        self.frames = frames
        self._free = [frames.make_slot(refine=refine) for _ in range(slots)]
        self._changed = threading.Condition()

    def submit(
        self, pixels: Pixels, supports: Tensors, shots: Sequence[int], *, scores: bool
    ) -> SlotFrame:
        """Queue a frame on the GPU and return at once; waits only for a free slot.

        Args:
            pixels: uint8 [H,W,3] RGB. A reversed view of BGR pixels, or a view of padded rows, is
                as fast: see `images.view_image`.
            supports: `s2`, `s3`, `s4` (and `c3`, `c4`) of all shots, ordered by class, and their
                `objects`.
            shots: number of shots of each class.
            scores: whether to return score maps, too.

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

    def match(
        self, pixels: Pixels, supports: Tensors, shots: Sequence[int], window: Window | None = None
    ) -> SlotMatch:
        """Compute the logits of a frame, or of a window of it, and wait for them.

        Arguments and errors are those of `submit`; also BackendError: the logits are not finite.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._free)
            slot = self._free.pop()
        try:
            launched = self.frames.start_match(slot, pixels, supports, shots, window)
            return SlotMatch(self, launched, *self.frames.read_match(launched))
        except BaseException:
            self.give_back(slot)
            raise

    def close(self) -> None:
        """Free the unused slots; those of frames in flight are freed with the pipeline."""
        with self._changed:
            slots, self._free = self._free, []
        self.frames.drop(slots)

    def give_back(self, slot: Slot) -> None:
        """The slot is free for the next frame."""
        with self._changed:
            self._free.append(slot)
            self._changed.notify()
