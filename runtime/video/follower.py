"""One video's state: chooses the shots of the next frame, and averages logits over frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hsnet_trt.runtime.matching.packing import Shot
from hsnet_trt.runtime.matching.support_set import SupportSet
from hsnet_trt.runtime.pictures.preprocess import Floats, Placement
from hsnet_trt.runtime.pictures.window import Window
from hsnet_trt.runtime.video.closer import Looks, View
from hsnet_trt.runtime.video.confidence import is_sharp
from hsnet_trt.runtime.video.here import Here
from hsnet_trt.runtime.video.memory import Memory, Remembered
from hsnet_trt.runtime.video.motion import MotionFinder, Small
from hsnet_trt.runtime.video.steady import Steady

_EVERY = 4  # a class is offered to the memory at most once in so many frames
_CLIP = 6.0  # logit differences are clipped to +-6 before shots are averaged

# A class's plane [h,w] of what was matched -> its shot.
Encode = Callable[[Floats], Shot]


@dataclass(frozen=True)
class Turn:
    """What a frame is matched with.

    Attributes:
        supports: the shots.
        remembered: by class, its remembered shot; it is the last of the class's shots.
        key: 0 for the given shots alone; within one version, equal keys mean equal shots.
        version: of the memory.
    """

    supports: SupportSet
    remembered: dict[str, Remembered]
    key: int
    version: int


class Follower:
    """Remembers shots and averages logits over the frames of one stream, one frame at a time.

    With averaging over time, shots matched in different frames still vote together: given and
    remembered shots alternate, at no extra cost per frame. Without it, each frame is matched with
    the given shots and one remembered shot.

    Attributes:
        steady: whether logits are averaged over time.
    """

    steady: bool

    def __init__(self, memory: Memory | None, *, steady: bool) -> None:
        """Begin a video.

        Args:
            memory: the remembered shots; None to remember nothing.
            steady: whether logits are averaged over time.

        Raises:
            HSNetError: OpenCV is not installed.
        """
        self._memory, self.steady = memory, steady
        self._motion = MotionFinder()
        self._looks = Looks()
        self._averages: dict[str, Steady] = {}
        self._frame = 0 if memory is None else memory.seen
        self._looked: dict[str, int] = {}
        # By class: the latest plane of the given shots alone, and its weights (None: all 1).
        self._given: dict[str, tuple[Floats, Floats | None]] = {}
        self._here: dict[str, Here] = {}
        self._set: Mapping[str, list[Shot]] = {}  # the given shots of the latest turn

    @property
    def sets(self) -> int:
        """How many different sets of shots the frames are matched with, at most."""
        return 1 if self._memory is None else 1 + self._memory.shots

    def turn(self, given: SupportSet) -> Turn:
        """Choose what the next frame is matched with, from the given shots and the memory."""
        self._forget_replaced(given)
        if self._memory is None:
            return Turn(given, {}, 0, 0)
        for name, shots in given.classes.items():
            self._memory.follow(name, shots, self._frame)
        kept = {name: self._memory.of(name) for name in given.classes}
        version = self._memory.version
        longest = max(map(len, kept.values()), default=0)
        if longest == 0 or (self.steady and self._frame % 2 == 0):
            return Turn(given, {}, 0, version)
        number = (self._frame // 2 if self.steady else self._frame) % longest
        remembered = {name: k[number % len(k)] for name, k in kept.items() if k}
        classes = {}
        for name, shots in given.classes.items():
            own = [remembered[name].shot] if name in remembered else []
            classes[name] = own if self.steady and own else [*shots, *own]
        return Turn(SupportSet(classes), remembered, number + 1, version)

    def look(self, small: Small, whole: Placement) -> Window | None:
        """The window of the next frame to match; None for the whole frame (always, if not steady).

        Args:
            small: the frame.
            whole: where the frame is in the network's input.
        """
        if self._motion.is_cut(small):
            self._looks.forget()
        return self._looks.choose(whole) if self.steady else None

    def see(
        self, turn: Turn, presence: Mapping[str, float], planes: Floats, *, closer: bool
    ) -> dict[str, float]:
        """The presence score of each class, in [0,1].

        If steady, it is that of `Here`; else that in `presence`, and 1 for a class without one.

        Args:
            turn: what the frame was matched with.
            presence: scores of the classes whose given shots were matched in this turn. Remembered
                shots give none, since the threshold was chosen on given shots.
            planes: what `settle` returned for the frame.
            closer: whether only a window of the frame was matched.
        """
        known, self._here = self._here, {}
        found = {}
        for name, plane in zip(turn.supports.classes, planes, strict=True):
            self._here[name] = known.get(name) or Here()
            now = presence.get(name)
            if self.steady:
                surest = float(plane[1].max())
                found[name] = self._here[name].add(now, surest, closer=closer)
            else:
                found[name] = 1.0 if now is None else now
        return found

    def settle(
        self, turn: Turn, logits: Floats, small: Small, encode: Encode, view: View | None = None
    ) -> Floats:
        """Merge each class's shots into one plane, average it over time, and update the memory.

        Args:
            turn: what the frame was matched with.
            logits: of the turn's shots, class after class, float32 [S,2,h,w].
            small: the frame, for its motion.
            encode: makes a shot of what was matched.
            view: the window that was matched; None for the whole frame.

        Returns:
            Logits float32 [classes,2,h,w]; those of the background are 0.
        """
        motion = self._motion.find(small)
        if motion is not None and motion.cut:
            self._begin_anew()
        difference = np.clip(logits[:, 1] - logits[:, 0], -_CLIP, _CLIP)
        placed, counts = (difference, None) if view is None else view.spread(difference)
        planes = np.zeros((len(turn.supports.classes), *logits.shape[1:]), np.float32)
        first = 0
        for plane, (name, shots) in zip(planes, turn.supports.classes.items(), strict=True):
            mine = slice(first, first + len(shots))
            first += len(shots)
            remembered = turn.remembered.get(name)
            if remembered is None or len(shots) > 1:
                given = slice(mine.start, mine.stop - (remembered is not None))
                self._given[name] = placed[given].mean(axis=0), counts
                self._remember(name, difference[given].mean(axis=0), encode)
            if remembered is not None:
                self._judge(name, remembered, placed[mine.stop - 1], counts)
            shown = placed[mine].mean(axis=0)
            if self.steady:
                average = self._averages.setdefault(name, Steady())
                shown = average.add(shown, motion, counts)
            plane[1] = shown
        for name in set(self._averages) - set(turn.supports.classes):
            del self._averages[name]
        if self.steady:
            self._looks.follow(planes[:, 1])
        self._frame += 1
        return planes

    def _forget_replaced(self, given: SupportSet) -> None:
        """Drop the state of classes whose shots were set again: they are other objects now."""
        for name, shots in given.classes.items():
            if self._set.get(name) is not shots:
                for known in (self._averages, self._given, self._here, self._looked):
                    known.pop(name, None)
                self._looks.forget()
        self._set = given.classes

    def _begin_anew(self) -> None:
        if self._memory is not None:
            self._memory.clear()
        for average in self._averages.values():
            average.forget()
        self._given.clear()
        self._here.clear()

    def _judge(
        self, name: str, remembered: Remembered, plane: Floats, counts: Floats | None
    ) -> None:
        """Score a remembered shot by its IoU with the given shots' mask, if that mask is sharp.

        Only the given shots judge and are remembered from, so that mistakes do not accumulate.
        """
        given, before = self._given.get(name, (None, None))
        if self._memory is None or given is None or not is_sharp(given):
            return
        both = np.ones(plane.shape, np.bool_)
        for seen in (counts, before):
            if seen is not None:
                both &= seen > 0
        found, wanted = (plane > 0) & both, (given > 0) & both
        if wanted.any():
            agreement = int((found & wanted).sum()) / int((found | wanted).sum())
            self._memory.judge(name, remembered, agreement)

    def _remember(self, name: str, plane: Floats, encode: Encode) -> None:
        memory = self._memory
        if memory is None or self._frame - self._looked.get(name, -_EVERY) < _EVERY:
            return
        if is_sharp(plane):
            self._looked[name] = self._frame
            memory.offer(name, encode(plane), self._frame)
