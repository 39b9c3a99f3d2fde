"""One video's state: which shots the next frame is matched with, and what its logits mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hsnet_trt.runtime.matching.packing import Shot
from hsnet_trt.runtime.matching.support_set import SupportSet
from hsnet_trt.runtime.pictures.preprocess import Floats
from hsnet_trt.runtime.video.confidence import is_sharp
from hsnet_trt.runtime.video.memory import Memory, Remembered
from hsnet_trt.runtime.video.motion import MotionFinder, Small
from hsnet_trt.runtime.video.steady import Steady

_EVERY = 4  # frames from one look for something to remember to the next
_LATEST = 0.4  # weight of the latest presence in its average
_CLIP = 6.0  # logits are cut there before shots are averaged

# A class's plane [h,w] of the frame -> its shot.
Encode = Callable[[Floats], Shot]


@dataclass(frozen=True)
class Turn:
    """What a frame is matched with.

    Attributes:
        supports: the shots.
        remembered: by class, the one of them that was remembered; it is the last.
        key: 0 for the given shots alone; else the same for the same shots of one version.
        version: of what is remembered.
    """

    supports: SupportSet
    remembered: dict[str, Remembered]
    key: int
    version: int


class Follower:
    """Remembers and averages. For one stream, whose frames come one at a time.

    Where scores are averaged over time, shots need not be matched in the same frame to vote
    together: the given ones and the remembered ones take turns, and a frame costs no more. Else
    one remembered shot is matched beside the given ones in each frame.

    Attributes:
        steady: whether logits are averaged over time.
    """

    steady: bool

    def __init__(self, memory: Memory | None, *, steady: bool) -> None:
        """Begin a video.

        Args:
            memory: what is remembered; None for nothing.
            steady: whether logits are averaged over time.

        Raises:
            HSNetError: OpenCV is not installed.
        """
        self._memory, self.steady = memory, steady
        self._motion = MotionFinder()
        self._averages: dict[str, Steady] = {}
        self._frame = 0 if memory is None else memory.seen
        self._looked: dict[str, int] = {}
        self._given: dict[str, Floats] = {}  # the last answers of the given shots alone
        self._presence: dict[str, float] = {}

    @property
    def sets(self) -> int:
        """How many sets of shots frames are matched with in turns."""
        return 1 if self._memory is None else 1 + self._memory.shots

    def turn(self, given: SupportSet) -> Turn:
        """Choose what the next frame is matched with, by the shots that were given."""
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

    def see(self, turn: Turn, presence: Mapping[str, float]) -> dict[str, float]:
        """How far each class is there: the score of this frame, or averaged over time if steady.

        Args:
            turn: what the frame was matched with.
            presence: scores, of the classes whose given shots were among that; only these count,
                since the threshold was chosen for such.
        """
        known = self._presence
        self._presence = {}
        for name in turn.supports.classes:
            before, now = known.get(name), presence.get(name)
            if before is not None and now is not None and self.steady:
                now = before + _LATEST * (now - before)
            score = before if now is None else now
            self._presence[name] = 1.0 if score is None else score
        return dict(self._presence)

    def settle(self, turn: Turn, logits: Floats, small: Small, encode: Encode) -> Floats:
        """Make one plane of each class, and remember what can be trusted.

        Args:
            turn: what the frame was matched with.
            logits: of its shots, class after class, float32 [S,2,h,w].
            small: the frame, for its motion.
            encode: makes a shot of the frame.

        Returns:
            Logits float32 [classes,2,h,w]; that of background is 0.
        """
        motion = self._motion.find(small)
        if motion is not None and motion.cut:
            self._begin_anew()
        difference = np.clip(logits[:, 1] - logits[:, 0], -_CLIP, _CLIP)
        planes = np.zeros((len(turn.supports.classes), *logits.shape[1:]), np.float32)
        first = 0
        for plane, (name, shots) in zip(planes, turn.supports.classes.items(), strict=True):
            mine = difference[first : first + len(shots)]
            first += len(shots)
            by_given = self._by_given(name, turn.remembered.get(name), mine)
            if by_given is not None:
                self._remember(name, by_given, encode)
            shown = mine.mean(axis=0)
            if self.steady:
                average = self._averages.setdefault(name, Steady())
                shown = average.add(shown, motion)
            plane[1] = shown
        for name in set(self._averages) - set(turn.supports.classes):
            del self._averages[name]
        self._frame += 1
        return planes

    def _begin_anew(self) -> None:
        if self._memory is not None:
            self._memory.clear()
        for average in self._averages.values():
            average.forget()
        self._given.clear()
        self._presence.clear()

    def _by_given(self, name: str, remembered: Remembered | None, planes: Floats) -> Floats | None:
        """What the given shots alone answer; None if this was not their turn.

        Where they are certain, they judge the remembered shot. Only what they are certain of is
        remembered, so that one mistake does not lead to the next.
        """
        if self._memory is None:
            return None
        if remembered is None:
            given = self._given[name] = np.asarray(planes.mean(axis=0), np.float32)
            return given
        own = np.asarray(planes[:-1].mean(axis=0), np.float32) if len(planes) > 1 else None
        given_last = self._given.get(name) if own is None else own
        if given_last is not None and is_sharp(given_last):
            found, wanted = planes[-1] > 0, given_last > 0
            agreement = int((found & wanted).sum()) / int((found | wanted).sum())
            self._memory.judge(name, remembered, agreement)
        return own

    def _remember(self, name: str, plane: Floats, encode: Encode) -> None:
        memory = self._memory
        if memory is None or self._frame - self._looked.get(name, -_EVERY) < _EVERY:
            return
        if is_sharp(plane):
            self._looked[name] = self._frame
            memory.offer(name, encode(plane), self._frame)
