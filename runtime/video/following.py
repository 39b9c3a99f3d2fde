"""The frame pipeline of a video, whose frames depend on those before them.

Frames are processed one at a time, since the next one may be matched with shots of this one; frames
are read ahead meanwhile. Results do not depend on the rate at which frames arrive.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from hsnet_trt.runtime.matching.graphs import Tensors
from hsnet_trt.runtime.matching.packing import Shot, compress
from hsnet_trt.runtime.matching.presence import Objects, Seen, presence
from hsnet_trt.runtime.matching.runner import Runner
from hsnet_trt.runtime.matching.running import run_support
from hsnet_trt.runtime.matching.support_set import SupportSet
from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.pictures.postprocess import segment_logits
from hsnet_trt.runtime.pictures.preprocess import OUTSIDE, Floats, Placement, network_mask
from hsnet_trt.runtime.pictures.result import Segmentation
from hsnet_trt.runtime.pictures.window import Window
from hsnet_trt.runtime.video.closer import View
from hsnet_trt.runtime.video.follower import Follower, Turn
from hsnet_trt.runtime.video.here import FROM
from hsnet_trt.runtime.video.motion import Small, shrink


class Arranged(Protocol):
    """A support set as a pipeline matches it: `runtime.pipeline.ArrangedSupports`."""

    @property
    def supports(self) -> SupportSet:
        """The set."""
        ...

    @property
    def objects(self) -> Objects:
        """The vectors of each shot's object."""
        ...


A = TypeVar("A", bound=Arranged)
A_contra = TypeVar("A_contra", bound=Arranged, contravariant=True)


class MatchedFrame(Protocol):
    """A frame whose logits are computed and whose masks are not drawn yet."""

    @property
    def placement(self) -> Placement:
        """Where the matched frame or window is in the network's input."""
        ...

    @property
    def logits(self) -> Floats:
        """Float32 [1,S,2,h,w] at decoder resolution."""
        ...

    @property
    def shot_scores(self) -> Floats:
        """Presence score of each shot, float32 [1,S] in [0,1]: see `matching.presence`."""
        ...

    @property
    def features(self) -> Tensors:
        """`f2`, `f3`, `f4`, each [1,L,C,row]; read only when the frame is remembered."""
        ...

    def draw(
        self, logits: Floats, classes: Mapping[str, int], seen: Seen, *, scores: bool
    ) -> Segmentation:
        """Draw the masks of these logits, [S,2,h,w]; `classes` gives each class's shots. Once."""
        ...

    def abandon(self) -> None:
        """Release the frame instead of drawing it."""
        ...


class MatchingFrame(Protocol[A_contra]):
    """A decoded frame that can be matched, whole or in a window, without drawing masks."""

    @property
    def pixels(self) -> Pixels:
        """uint8 [H,W,3] RGB."""
        ...

    @property
    def placement(self) -> Placement:
        """Where the whole frame is in the network's input."""
        ...

    def match(self, supports: A_contra, window: Window | None = None) -> MatchedFrame:
        """Run the network on the frame, or on a window of it, and wait for the logits."""
        ...


class MatchingPipeline(Protocol[A]):
    """A `FramePipeline` whose frames can be matched without drawing masks."""

    def arrange(self, supports: SupportSet) -> A:
        """See `FramePipeline.arrange`."""
        ...

    def view(self, source: Any, what: str, color: str) -> MatchingFrame[A]:
        """Decode a frame, without the preprocessing that `FramePipeline.read` does."""
        ...

    def close(self) -> None:
        """See `FramePipeline.close`."""
        ...


@dataclass(frozen=True)
class FollowedFrame(Generic[A]):
    """A decoded frame; see `pipeline.ReadFrame`."""

    pipeline: FollowingPipeline[A]
    frame: MatchingFrame[A]
    small: Small
    milliseconds: float  # for shrinking it

    @property
    def pixels(self) -> Pixels:
        """uint8 [H,W,3] RGB."""
        return self.frame.pixels

    def start(self, supports: A, *, scores: bool) -> FollowedPending[A]:
        """Run nothing yet: the frame may depend on those before it."""
        return FollowedPending(self, supports, scores)


@dataclass(frozen=True)
class FollowedPending(Generic[A]):
    """A frame whose turn has come; see `pipeline.Pending`."""

    frame: FollowedFrame[A]
    supports: A
    scores: bool

    def result(self) -> Segmentation:
        """Match the frame, combine its logits with those of earlier frames, draw its masks."""
        return self.frame.pipeline.answer(self.frame, self.supports, scores=self.scores)

    def abandon(self) -> None:
        """No-op: nothing is running."""


class FollowingPipeline(Generic[A]):
    """A `pipeline.FramePipeline` for one stream: frames come in order, one at a time."""

    slots = 1

    def __init__(
        self,
        inner: MatchingPipeline[A],
        runner: Runner,
        follower: Follower,
        present_from: float,
    ) -> None:
        """Follow the frames that go through a pipeline.

        Args:
            inner: matches and draws frames; closed with this pipeline.
            runner: encodes the frames that are remembered.
            follower: the video's state.
            present_from: the presence threshold of a single frame. A steady follower's scores are
                those of `Here`, whose threshold `here.FROM` is used instead.
        """
        self._present_from = FROM if follower.steady else present_from
        self._inner, self._runner, self._follower = inner, runner, follower
        self._given: A | None = None
        self._version = -1
        self._turns: dict[int, A] = {}

    def arrange(self, supports: SupportSet) -> A:
        """See `FramePipeline.arrange`."""
        return self._inner.arrange(supports)

    def with_slots(self, slots: int) -> FollowingPipeline[A]:
        """This pipeline: its frames depend on each other."""
        return self

    def segment_all(
        self, images: Sequence[Any], supports: A, color: str = "rgb"
    ) -> list[Segmentation]:
        """Segment the images as the frames of a video."""
        what = "the query image"
        frames = (self.read(image, what, color) for image in images)
        return [self.answer(frame, supports, scores=True) for frame in frames]

    def read(self, source: Any, what: str, color: str) -> FollowedFrame[A]:
        """Decode the frame, and shrink it for motion estimation."""
        frame = self._inner.view(source, what, color)
        begun = time.perf_counter()
        small = shrink(frame.pixels, frame.placement)
        return FollowedFrame(self, frame, small, 1000 * (time.perf_counter() - begun))

    def answer(self, frame: FollowedFrame[A], supports: A, *, scores: bool) -> Segmentation:
        """The next frame's masks.

        Raises:
            BackendError: the backend failed.
        """
        turn = self._follower.turn(supports.supports)
        whole = frame.frame.placement
        window = self._follower.look(frame.small, whole)
        matched = frame.frame.match(self._arranged(turn, supports), window)
        try:
            begun = time.perf_counter()

            def encode(plane: Floats) -> Shot:
                return self._encode(matched, plane, matched.placement)

            scores_now = self._presence(turn, supports, matched.shot_scores[0])
            view = None if window is None else View(window, matched.placement, whole)
            planes = self._follower.settle(turn, matched.logits[0], frame.small, encode, view)
            closer = window is not None
            found = self._follower.see(turn, scores_now, planes, closer=closer)
            seen = Seen(found, self._present_from)
            spent = 1000 * (time.perf_counter() - begun)
        except BaseException:
            matched.abandon()
            raise
        classes = dict.fromkeys(supports.supports.classes, 1)
        drawn = matched.draw(planes, classes, seen, scores=scores)
        timing = dict(drawn.timing)
        timing["preprocess"] += frame.milliseconds
        timing["postprocess"] += spent
        return dataclasses.replace(drawn, timing=timing)

    def close(self) -> None:
        """Close the inner pipeline."""
        self._turns.clear()
        self._inner.close()

    def _arranged(self, turn: Turn, given: A) -> A:
        """The shots of a turn, arranged for matching; cached until the shots change."""
        if turn.key == 0:
            return given
        if given is not self._given or turn.version != self._version:
            self._turns.clear()
            self._given, self._version = given, turn.version
        if turn.key not in self._turns:
            self._turns[turn.key] = self._inner.arrange(turn.supports)
        return self._turns[turn.key]

    def _presence(self, turn: Turn, given: Arranged, scores: Floats) -> dict[str, float]:
        """The score of each class whose given shots were matched in this turn."""
        found, first, mine, counts = {}, 0, 0, given.objects.counts
        for name, count in given.supports.counts.items():
            matched = len(turn.supports.classes[name])
            if matched >= count and not (matched == count and name in turn.remembered):
                (found[name],) = presence(
                    scores[first : first + count], counts[mine : mine + count], [count]
                )
            first, mine = first + matched, mine + count
        return found

    def _encode(self, matched: MatchedFrame, plane: Floats, placement: Placement) -> Shot:
        logits = np.stack([np.zeros_like(plane), plane])[None]
        mask = segment_logits(logits, [1], placement)[0][0]
        fitted = network_mask(mask, placement, OUTSIDE if self._runner.contrast else 0)[None]
        return compress(run_support(self._runner, matched.features, fitted))[0]
