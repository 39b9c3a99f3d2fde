"""Frames with confident masks, kept as additional shots of their class."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.matching.packing import Shot
from hsnet_trt.runtime.video.confidence import ALIKE, Vector, likeness, mean_features

MOST = 16  # remembered shots per class
_PATIENCE = 0.35  # running agreement below which a shot is dropped
_WEIGHT = 0.3  # of the latest agreement in the running mean


@dataclass(eq=False)
class Remembered:
    """A remembered shot.

    Attributes:
        shot: encoded.
        mean: its mean features: see `confidence.mean_features`.
        frame: number of the frame that it comes from.
        agreement: running mean of the IoU between its masks and those of the given shots.
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
    """Shots that a stream remembers of a video, for `FewShotSegmenter.stream`.

    Frames with confident masks become shots of their class, beside the given shots, which are never
    displaced. A shot is forgotten when it is too old, when the memory is full and a newer shot is
    the most similar to it, when its masks disagree with those of the given shots, and at a cut.
    Setting a class again forgets its remembered shots. One stream at a time may use a memory; its
    shots stay when the stream ends.
    """

    def __init__(self, shots: int = 4, *, age: int = 600) -> None:
        """Remember nothing yet.

        Args:
            shots: the most frames remembered per class, 1 to 16.
            age: the number of frames after which a shot is forgotten.

        Raises:
            InputError: `shots` is out of range, or `age` is below 1.
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
        """How many frames have used this memory so far; the next one gets that number."""
        with self._lock:
            return self._seen

    @property
    def version(self) -> int:
        """A counter that goes up whenever the remembered shots change."""
        with self._lock:
            return self._version

    def __len__(self) -> int:
        """How many frames are remembered, of all classes together."""
        with self._lock:
            return sum(len(known.shots) for known in self._classes.values())

    def frames(self, name: str) -> tuple[int, ...]:
        """The numbers of the frames that are remembered of a class, oldest first.

        Dropped and failed frames get no number; a second stream continues the numbering.
        """
        return tuple(kept.frame for kept in self.of(name))

    def clear(self) -> None:
        """Forget all shots; safe while a stream runs."""
        with self._lock:
            if any(known.shots for known in self._classes.values()):
                self._version += 1
            self._classes = {}

    def of(self, name: str) -> tuple[Remembered, ...]:
        """The remembered shots of a class, oldest first."""
        with self._lock:
            known = self._classes.get(name)
            return tuple(known.shots) if known else ()

    def follow(self, name: str, given: list[Shot], frame: int) -> None:
        """Register a class's given shots, and forget its remembered shots that are too old.

        Args:
            name: the class.
            given: its shots; another list object than before means that the class was set again.
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
        """Keep a frame's shot if its mean features are similar to those of a given shot.

        If the memory is full, the older one of the two most similar shots is dropped.

        Returns:
            Whether the shot was kept.
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
        """Update a shot's running agreement with an IoU, 0..1; drop the shot if it is too low."""
        with self._lock:
            kept.agreement += _WEIGHT * (agreement - kept.agreement)
            known = self._classes.get(name)
            if known is not None and kept in known.shots and kept.agreement < _PATIENCE:
                known.shots.remove(kept)
                self._version += 1


def _most_alike(shots: list[Remembered]) -> int:
    """Index of the older of the two most similar shots."""
    pairs = [
        (likeness(shots[a].mean, [shots[b].mean]), -a)
        for a in range(len(shots))
        for b in range(a + 1, len(shots))
    ]
    return -max(pairs)[1]
