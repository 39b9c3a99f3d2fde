"""Frames that were answered with confidence, kept as more shots of their class."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.matching.packing import Shot
from hsnet_trt.runtime.video.confidence import ALIKE, Vector, likeness, mean_features

MOST = 16  # shots of a class
_PATIENCE = 0.35  # mean agreement below which a shot is dropped
_WEIGHT = 0.3  # of the latest agreement in that mean


@dataclass(eq=False)
class Remembered:
    """A remembered shot.

    Attributes:
        shot: encoded.
        mean: its mean features.
        frame: number of the frame that it comes from.
        agreement: how well its answers agree with those of the given shots, a running mean of IoU.
    """

    shot: Shot
    mean: Vector
    frame: int
    agreement: float = 1.0


@dataclass
class _Class:
    given: list[Shot]
    means: list[Vector]
    shots: list[Remembered] = field(default_factory=list)


class Memory:
    """What a stream remembers of a video, for `FewShotSegmenter.stream`.

    Frames whose answer is confident become shots of their class, beside those that were given,
    which are never displaced. A shot is forgotten when it is old, when a more different one needs
    its place, when its answers disagree with those of the given shots, and at a cut. Shots of a
    class that is set anew are forgotten with it. One stream at a time may use it; it keeps what it
    has when the stream ends.
    """

    def __init__(self, shots: int = 4, *, age: int = 600) -> None:
        """Remember nothing yet.

        Args:
            shots: how many frames are remembered of each class at most, 1 to 16.
            age: after how many frames one is forgotten.

        Raises:
            InputError: another number of shots, or an age below 1.
        """
        if not 1 <= shots <= MOST or age < 1:
            raise InputError(
                "a memory has no such size",
                expected=f"1 to {MOST} shots, an age of 1 frame or more",
                found=f"{shots} shots, an age of {age}",
            )
        self.shots, self.age = shots, age
        self._classes: dict[str, _Class] = {}
        self._lock = threading.Lock()
        self._version = self._seen = 0

    @property
    def seen(self) -> int:
        """How many frames were followed with it so far; the next one has that number."""
        with self._lock:
            return self._seen

    @property
    def version(self) -> int:
        """Changes whenever what is remembered does."""
        with self._lock:
            return self._version

    def __len__(self) -> int:
        """How many frames are remembered, of all classes together."""
        with self._lock:
            return sum(len(known.shots) for known in self._classes.values())

    def frames(self, name: str) -> tuple[int, ...]:
        """The numbers of the frames that are remembered of a class, oldest first.

        Frames that were dropped or failed are not counted; a second stream counts on.
        """
        return tuple(kept.frame for kept in self.of(name))

    def clear(self) -> None:
        """Forget everything; allowed while a stream runs."""
        with self._lock:
            if any(known.shots for known in self._classes.values()):
                self._version += 1
            self._classes = {}

    def of(self, name: str) -> tuple[Remembered, ...]:
        """What is remembered of a class, oldest first."""
        with self._lock:
            known = self._classes.get(name)
            return tuple(known.shots) if known else ()

    def follow(self, name: str, given: list[Shot], frame: int) -> None:
        """Take the shots that were given of a class, and forget what is too old for this frame.

        Args:
            name: the class.
            given: its shots; another list than before is another object, of which nothing is known.
            frame: the frame's number.
        """
        with self._lock:
            self._seen = frame + 1
            known = self._classes.get(name)
            if known is None or known.given is not given:
                if known is not None and known.shots:
                    self._version += 1
                means = [mean_features(shot) for shot in given]
                known = self._classes[name] = _Class(given, means)
            fresh = [kept for kept in known.shots if frame - kept.frame <= self.age]
            if len(fresh) < len(known.shots):
                known.shots = fresh
                self._version += 1

    def offer(self, name: str, shot: Shot, frame: int) -> bool:
        """Keep a frame's shot if its features are like those of a given one.

        Returns:
            Whether it was kept. If there is no room, one of the two most alike goes, the older.
        """
        mean = mean_features(shot)
        with self._lock:
            known = self._classes.get(name)
            if known is None or likeness(mean, known.means) < ALIKE:
                return False
            known.shots.append(Remembered(shot, mean, frame))
            if len(known.shots) > self.shots:
                del known.shots[_most_alike(known.shots)]
            self._version += 1
            return True

    def judge(self, name: str, kept: Remembered, agreement: float) -> None:
        """Count how well a remembered shot agreed with the given ones; drop it if too badly."""
        with self._lock:
            kept.agreement += _WEIGHT * (agreement - kept.agreement)
            known = self._classes.get(name)
            if known is not None and kept in known.shots and kept.agreement < _PATIENCE:
                known.shots.remove(kept)
                self._version += 1


def _most_alike(shots: list[Remembered]) -> int:
    """The older one of the two that are most alike."""
    pairs = [
        (likeness(shots[a].mean, [shots[b].mean]), -a)
        for a in range(len(shots))
        for b in range(a + 1, len(shots))
    ]
    return -max(pairs)[1]
