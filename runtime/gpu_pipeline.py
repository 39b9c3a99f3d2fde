"""The frame pipeline on the GPU, from pixels to masks, for runners that support it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hsnet_trt.runtime.matching.graphs import Tensors
from hsnet_trt.runtime.matching.presence import OBJECTS, Objects, Seen, objects_of, presence
from hsnet_trt.runtime.matching.runner import (
    FrameAnswer,
    FrameLane,
    GpuPipeline,
    MatchedOnGpu,
    SubmittedFrame,
)
from hsnet_trt.runtime.matching.running import arranged
from hsnet_trt.runtime.matching.support_set import SupportSet
from hsnet_trt.runtime.pictures.images import Pixels, view_image
from hsnet_trt.runtime.pictures.preprocess import Floats, Placement, place
from hsnet_trt.runtime.pictures.result import Segmentation
from hsnet_trt.runtime.pictures.window import Window
from hsnet_trt.runtime.pipeline import ArrangedSupports


@dataclass(frozen=True)
class GpuFrame:
    """A decoded frame; everything else runs on the GPU, BGR and padded rows included."""

    lane: FrameLane
    pixels: Pixels
    placement: Placement
    policy: str
    present_from: float

    def start(self, supports: ArrangedSupports, *, scores: bool) -> GpuPending:
        """Send the frame to the GPU; waits for a free slot."""
        (stack,), shots = supports.calls, supports.supports.shots
        frame = self.lane.submit(self.pixels, stack, shots, scores=scores)
        return GpuPending(frame, supports, self.present_from)

    def match(self, supports: ArrangedSupports, window: Window | None = None) -> GpuMatched:
        """Run the network on the frame, or on a window of it, and wait for the logits."""
        (stack,) = supports.calls
        shots, placement = supports.supports.shots, self.placement
        if window is not None:
            shape = (window.height, window.width)
            placement = place(shape, self.placement.network, self.policy)
        frame = self.lane.match(self.pixels, stack, shots, window)
        return GpuMatched(frame, placement, supports.objects)


@dataclass(frozen=True)
class GpuMatched:
    """A frame that was matched on the GPU; see `video.following.MatchedFrame`."""

    frame: MatchedOnGpu
    placement: Placement  # of the matched frame or window
    objects: Objects

    @property
    def logits(self) -> Floats:
        """Float32 [1,S,2,h,w]."""
        return self.frame.logits[None]

    @property
    def shot_scores(self) -> Floats:
        """Float32 [1,S] in [0,1]."""
        return self.objects.scores(self.frame.matches)[None]

    @property
    def features(self) -> Tensors:
        """`f2`, `f3`, `f4`, copied from the GPU."""
        return self.frame.features

    def draw(
        self, logits: Floats, classes: Mapping[str, int], seen: Seen, *, scores: bool
    ) -> Segmentation:
        """Draw the masks on the GPU, from logits [classes,2,h,w]."""
        return _segmentation(self.frame.draw(logits, scores=scores), tuple(classes), seen)

    def abandon(self) -> None:
        """Release the frame."""
        self.frame.abandon()


@dataclass(frozen=True)
class GpuPending:
    """A frame on the GPU; see `pipeline.Pending`."""

    frame: SubmittedFrame
    supports: ArrangedSupports
    present_from: float

    def result(self) -> Segmentation:
        """Wait for the frame and fetch its masks.

        Raises:
            BackendError: CUDA failed, or the logits are not finite.
        """
        answer = self.frame.collect()
        names, shots = tuple(self.supports.supports.classes), self.supports.supports.shots
        objects = self.supports.objects
        here = presence(objects.scores(answer.matches), objects.counts, shots)
        return _segmentation(
            answer, names, Seen(dict(zip(names, here, strict=True)), self.present_from)
        )

    def abandon(self) -> None:
        """Wait until the GPU is done with the frame."""
        self.frame.abandon()


def _segmentation(answer: FrameAnswer, names: tuple[str, ...], seen: Seen) -> Segmentation:
    return Segmentation(
        masks=dict(zip(names, answer.masks, strict=True)),
        scores=dict(zip(names, answer.scores, strict=True)) if answer.scores else {},
        labels=answer.labels,
        classes=names,
        timing=answer.timing,
        presence=seen.presence,
        present_from=seen.present_from,
    )


class GpuFramePipeline:
    """A `pipeline.FramePipeline` on the GPU."""

    def __init__(
        self,
        frames: GpuPipeline,
        size: tuple[int, int],
        policy: str,
        present_from: float,
        slots: int = 2,
        sets: int = 1,
        *,
        refine: bool = False,
    ) -> None:
        """Open a lane.

        Args:
            frames: the GPU.
            size: height and width of the network's input.
            policy: resize policy, see `preprocess.place`.
            present_from: the score from which a class counts as present.
            slots: how many frames may be in flight at once.
            sets: how many support sets the frames alternate between.
            refine: whether masks are refined, see `pictures.guided_filter`.
        """
        self.slots = slots
        self._frames, self._size, self._policy = frames, size, policy
        self._present_from, self._refine = present_from, refine
        self._lane = frames.open_lane(slots, sets, refine=refine)

    def arrange(self, supports: SupportSet) -> ArrangedSupports:
        """All shots in one set of arrays, class after class."""
        objects = objects_of(supports)
        call = arranged(list(supports), columns=self._frames.columns)
        return ArrangedSupports(supports, [{**call, OBJECTS: objects.vectors}], objects)

    def with_slots(self, slots: int) -> GpuFramePipeline:
        """A pipeline of the same network with its own slots, for one support set at a time."""
        own = (self._frames, self._size, self._policy, self._present_from)
        return GpuFramePipeline(*own, slots, refine=self._refine)

    def segment_all(
        self, images: Sequence[Any], supports: ArrangedSupports, color: str = "rgb"
    ) -> list[Segmentation]:
        """Segment queries, two in flight at a time."""
        what = "the query image"
        if len(images) == 1:
            return [self.read(images[0], what, color).start(supports, scores=True).result()]
        own, results, under_way = self.with_slots(2), [], deque[GpuPending]()
        try:
            for image in images:
                if len(under_way) == own.slots:
                    results.append(under_way.popleft().result())
                under_way.append(own.read(image, what, color).start(supports, scores=True))
            while under_way:
                results.append(under_way.popleft().result())
            return results
        finally:
            for pending in under_way:
                pending.abandon()
            own.close()

    def read(self, source: Any, what: str, color: str) -> GpuFrame:
        """Decode a frame."""
        pixels = view_image(source, what, color)
        placement = place((pixels.shape[0], pixels.shape[1]), self._size, self._policy)
        return GpuFrame(self._lane, pixels, placement, self._policy, self._present_from)

    view = read

    def close(self) -> None:
        """Free the slots."""
        self._lane.close()
