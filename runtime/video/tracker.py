"""Links the parts of consecutive frames: instances with ids, and events when they come and go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.pictures.detections import FoundMasks
from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.video.instances import Instance, Mask, Part, distance, find_parts, overlap

_FEWEST = 3  # frames in which an instance is seen before it is reported
_GONE = 10  # frames unseen after which an instance has left
_KNOWN = 300  # frames unseen after which an instance is forgotten
_NEAR = 1.5  # box diagonals that an instance may move per frame without overlap
_SAME = 0.5  # histogram intersection needed without overlap


@dataclass(frozen=True)
class Event:
    """An instance entered or left.

    Attributes:
        kind: "entered" or "left"; an instance that comes back enters again with its old id.
        id: of the instance.
        name: its class.
        frame: number of the frame in which it entered, or was last seen.
        box: x, y, width, height, in pixels, in that frame.
    """

    kind: Literal["entered", "left"]
    id: int
    name: str
    frame: int
    box: tuple[int, int, int, int]


@dataclass(eq=False)
class _Track:
    id: int
    part: Part
    first: int
    entered: int  # number of the frame in which it came, this time
    entered_as: Part  # what it was there
    last: int
    seen: int = 1
    here: bool = False


class Tracker:
    """Gives the parts of each class persistent ids, by overlap, distance and colours.

    Pass the frames of one video in order:

        tracker = Tracker()
        for frame in segmenter.stream(video, scores=True):
            for thing in tracker.update(frame.result, frame.image, frame.index):
                print(thing.id, thing.name, thing.box)

    Attributes:
        events: those of the last `update` or `finish`.
    """

    def __init__(self) -> None:
        self.events: tuple[Event, ...] = ()
        self._tracks: list[_Track] = []
        self._next = 1
        self._frame = -1

    def update(self, result: FoundMasks, image: Pixels, frame: int) -> list[Instance]:
        """The instances of the next frame, those seen in three frames or more, by id.

        Args:
            result: the frame's segmentation.
            image: its pixels, uint8 [H,W,3].
            frame: its number, larger than that of the frame before.

        Raises:
            InputError: the image is not of the result's size, or the number is not larger.
            HSNetError: OpenCV is not installed.
        """
        if image.shape[:2] != result.labels.shape or frame <= self._frame:
            raise InputError(
                "the frame does not follow the last one",
                expected=f"a picture {result.labels.shape}, a number above {self._frame}",
                found=f"{image.shape[:2]}, number {frame}",
            )
        self._frame = frame
        parts = find_parts(result, image)
        events: list[Event] = []
        for track, part in self._assign(parts):
            track.part, track.last = part, frame
            track.seen += 1
        self._appear(parts, frame)
        for track in self._tracks:
            if track.last == frame and not track.here and track.seen >= _FEWEST:
                track.here = True
                came = track.entered_as
                events.append(Event("entered", track.id, came.name, track.entered, came.box))
            elif track.here and frame - track.last >= _GONE:
                events.append(self._leave(track))
        self._tracks = [t for t in self._tracks if frame - t.last < self._patience(t)]
        self.events = tuple(events)
        shape = (image.shape[0], image.shape[1])
        return [
            _instance(track, result.classes.index(track.part.name), shape)
            for track in self._tracks
            if track.here and track.last == frame
        ]

    def finish(self) -> tuple[Event, ...]:
        """End the video: every instance still present leaves in the frame it was last seen in."""
        self.events = tuple(self._leave(track) for track in self._tracks if track.here)
        return self.events

    def _leave(self, track: _Track) -> Event:
        track.here, track.seen = False, 0
        return Event("left", track.id, track.part.name, track.last, track.part.box)

    def _patience(self, track: _Track) -> int:
        known = track.here or track.seen == 0
        return _KNOWN if known else 2  # seen once or twice and gone: taken for a mistake

    def _assign(self, parts: list[Part]) -> list[tuple[_Track, Part]]:
        """Pair tracks and parts greedily, best pairs first; the rest stay unpaired."""
        pairs = []
        for track in self._tracks:
            for part in parts:
                worth = _worth(track, part, self._frame)
                if worth is not None:
                    pairs.append((worth, track, part))
        pairs.sort(key=lambda pair: (-pair[0], pair[1].id))
        chosen: list[tuple[_Track, Part]] = []
        for _, track, part in pairs:
            if all(track is not t and part is not p for t, p in chosen):
                chosen.append((track, part))
                if not track.here and track.seen == 0:
                    track.entered, track.entered_as = self._frame, part
        return chosen

    def _appear(self, parts: list[Part], frame: int) -> None:
        taken = {id(track.part) for track in self._tracks if track.last == frame}
        for part in parts:
            if id(part) not in taken:
                self._tracks.append(_Track(self._next, part, frame, frame, part, frame))
                self._next += 1


def _worth(track: _Track, part: Part, frame: int) -> float | None:
    """How well a part continues a track; None if it cannot be the same instance."""
    if track.part.name != part.name:
        return None
    colours = float(np.minimum(track.part.colours, part.colours).sum())
    over = overlap(track.part, part)
    if over > 0:
        return 1 + over + 0.5 * colours
    # After a while hidden or outside, an instance may come back anywhere.
    near = distance(track.part, part)
    if colours < _SAME or (frame - track.last < _GONE and near > _NEAR * (frame - track.last)):
        return None
    return 0.5 * colours - 0.1 * min(near, 3.0)


def _instance(track: _Track, class_id: int, shape: tuple[int, int]) -> Instance:
    part = track.part
    x, y, width, height = part.box
    mask: Mask = np.zeros(shape, np.bool_)
    mask[y : y + height, x : x + width] = part.inside
    return Instance(
        track.id, part.name, class_id, part.box, part.area, part.score, mask, track.first,
        track.last,
    )  # fmt: skip
