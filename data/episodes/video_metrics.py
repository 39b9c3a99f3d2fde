"""Video metrics: overlap, contours, steadiness, and absence.

Region similarity J and contour accuracy F are those of DAVIS 2016 (Perazzi et al., A Benchmark
Dataset and Evaluation Methodology for Video Object Segmentation, CVPR 2016). Flicker and the frames
until an absence is noticed are our own, defined here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hsnet_trt.data.episodes.contours import boundary_f
from hsnet_trt.data.episodes.episode import Mask
from hsnet_trt.data.episodes.metrics import Counts, Interval, bootstrap, overlap
from hsnet_trt.errors import InputError

LEAST = 0.0025  # share of the picture; a smaller object is not judged, a smaller answer is empty
HIT = 0.5  # IoU from which the object counts as found, as in PASCAL VOC
SOON = 10  # frames
Origin = npt.NDArray[np.int16]  # [H, W, 2]


def flicker(
    answer: Mask, before: Mask, truth: Mask, truth_before: Mask, origin: Origin
) -> tuple[int, int]:
    """Count the pixels that change class without reason, and those that could.

    A pixel p shows a point of some surface, which the previous frame showed at q = origin[p]. It
    can flicker if q was visible and the truth gives p and q the same class. It flickers if none of
    the 3 x 3 pixels around q had, in the previous answer, the class that p has now. An answer that
    moves with the picture or follows the truth does not flicker, whatever it marks.

    Args:
        answer: of this frame, bool [H, W].
        before: of the previous frame, bool [H, W].
        truth: of this frame, bool [H, W].
        truth_before: of the previous frame, bool [H, W].
        origin: (row, column) in the previous frame of what each pixel shows, int16 [H, W, 2]; -1
            if it was outside or hidden.

    Returns:
        (pixels that flicker, pixels that could).
    """
    rows, columns = origin[..., 0], origin[..., 1]
    seen = (rows >= 0) & (columns >= 0)
    rows, columns = rows[seen], columns[seen]
    same = truth[seen] == truth_before[rows, columns]
    was = np.pad(before, 1, mode="edge")
    height, width = before.shape
    around = [was[r : r + height, c : c + width] for r in range(3) for c in range(3)]
    somewhere = np.logical_or.reduce(around)[rows, columns]
    everywhere = np.logical_and.reduce(around)[rows, columns]
    changed = np.where(answer[seen], ~somewhere, everywhere)
    return int((changed & same).sum()), int(same.sum())


@dataclass
class Wait:
    """Frames between events and the first answers that show them.

    Attributes:
        events: number of events.
        frames: total frames of waiting; an event that ends unnoticed counts with its whole length.
        soon: events shown by an answer less than SOON frames later.
    """

    events: int = 0
    frames: int = 0
    soon: int = 0
    _since: int | None = None

    def begin(self, frame: int) -> None:
        self.events += 1
        self._since = frame

    def end(self, frame: int, *, shown: bool) -> None:
        if self._since is None:
            return
        waited = frame - self._since
        self.frames += waited
        self.soon += shown and waited < SOON
        self._since = None


@dataclass
class VideoScore:
    """Counts of one video, added frame by frame; `summarise` turns those of several into figures.

    The object is *there* if it covers at least LEAST of the picture, and *gone* if no pixel shows
    it. In between, only flicker is judged. An answer is *empty* below LEAST of the picture.

    Attributes:
        frames: frames added.
        there: frames with the object.
        j, f: sums of region similarity and contour accuracy over the frames with the object.
        missed: frames with the object whose answer is empty.
        judged_present: frames with the object whose answer says whether it is present.
        denied: of these, those whose answer says that it is absent.
        gone: frames without the object.
        shown: of these, those whose answer is not empty.
        changed, could_change: sums of `flicker`.
        absence: from the first frame without the object, after one with it, to an empty answer.
        again: from the first frame with the object, after one without it, to an IoU of HIT.
    """

    frames: int = 0
    there: int = 0
    j: float = 0.0
    f: float = 0.0
    missed: int = 0
    judged_present: int = 0
    denied: int = 0
    gone: int = 0
    shown: int = 0
    changed: int = 0
    could_change: int = 0
    absence: Wait = field(default_factory=Wait)
    again: Wait = field(default_factory=Wait)
    _was_there: bool | None = None
    _last: tuple[Mask, Mask] | None = None  # answer, truth

    def add(
        self, answer: Mask, truth: Mask, origin: Origin, *, present: bool | None = None
    ) -> None:
        """Count the next frame.

        Args:
            answer: bool [H, W].
            truth: bool [H, W].
            origin: int16 [H, W, 2], see `flicker`; ignored in the first frame.
            present: whether the answer says that the object is present; None if it does not say.

        Raises:
            InputError: the shapes differ.
        """
        (_, both), (_, either) = overlap(answer, truth)
        if origin.shape != (*truth.shape, 2):
            raise InputError(
                "the motion does not fit its frame",
                expected=(*truth.shape, 2),
                found=origin.shape,
            )
        empty = float(answer.mean()) < LEAST
        if float(truth.mean()) >= LEAST:
            iou = both / either
            self._add_present(iou, boundary_f(answer, truth), empty=empty)
            self.judged_present += present is not None
            self.denied += present is False
        elif not truth.any():
            self._add_gone(empty=empty)
        if self._last is not None:
            changed, could = flicker(answer, self._last[0], truth, self._last[1], origin)
            self.changed += changed
            self.could_change += could
        self._last = answer, truth
        self.frames += 1

    def finish(self) -> None:
        """End the video: events that no answer has shown yet count as unnoticed."""
        self.absence.end(self.frames, shown=False)
        self.again.end(self.frames, shown=False)
        self._last = None

    def _add_present(self, iou: float, f: float, *, empty: bool) -> None:
        self.there += 1
        self.j += iou
        self.f += f
        self.missed += empty
        self.absence.end(self.frames, shown=False)
        if self._was_there is False:
            self.again.begin(self.frames)
        if iou >= HIT:
            self.again.end(self.frames, shown=True)
        self._was_there = True

    def _add_gone(self, *, empty: bool) -> None:
        self.gone += 1
        self.shown += not empty
        self.again.end(self.frames, shown=False)
        if self._was_there:
            self.absence.begin(self.frames)
        if empty:
            self.absence.end(self.frames, shown=True)
        self._was_there = False


@dataclass(frozen=True)
class VideoFigures:
    """Figures over several videos, with 95 % bootstrap intervals over the videos.

    A figure is None if nothing could be judged, for example because every frame shows the object.

    Attributes:
        j, f: region similarity and contour accuracy in percent: the mean over a video's frames with
            the object, then over videos.
        flicker: percent of the pixels that could flicker.
        missed: percent of the frames with the object whose answer is empty.
        denied: percent of the judged frames with the object whose answer says that it is absent:
            the false alarms when watching for absence.
        shown_absent: percent of the frames without the object whose answer is not empty, including
            those before the absence is noticed.
        absence: mean frames until an absence is noticed; an unnoticed one counts with its length.
        absence_soon: percent of the absences noticed in less than SOON frames.
        again: mean frames until the object is found again; likewise.
        again_soon: percent of the returns found in less than SOON frames.
    """

    j: Interval | None
    f: Interval | None
    flicker: Interval | None
    missed: Interval | None
    denied: Interval | None
    shown_absent: Interval | None
    absence: Interval | None
    absence_soon: Interval | None
    again: Interval | None
    again_soon: Interval | None


def summarise(scores: Sequence[VideoScore]) -> VideoFigures:
    """Compute the figures of finished videos."""

    def per_video(total: str) -> Interval | None:
        means = [(getattr(s, total) / max(s.there, 1), min(s.there, 1)) for s in scores]
        return _ratio(means, 100)

    def waits(kind: str, of: str, scale: float) -> Interval | None:
        counted = [getattr(score, kind) for score in scores]
        return _ratio([(getattr(w, of), w.events) for w in counted], scale)

    return VideoFigures(
        j=per_video("j"),
        f=per_video("f"),
        flicker=_ratio([(s.changed, s.could_change) for s in scores], 100),
        missed=_ratio([(s.missed, s.there) for s in scores], 100),
        denied=_ratio([(s.denied, s.judged_present) for s in scores], 100),
        shown_absent=_ratio([(s.shown, s.gone) for s in scores], 100),
        absence=waits("absence", "frames", 1),
        absence_soon=waits("absence", "soon", 100),
        again=waits("again", "frames", 1),
        again_soon=waits("again", "soon", 100),
    )


def plain(score: VideoScore) -> dict[str, float | dict[str, int]]:
    """The counts as plain values, for JSON."""
    kept: dict[str, float | dict[str, int]] = {}
    for item in dataclasses.fields(score):
        value = getattr(score, item.name)
        if isinstance(value, Wait):
            value = {"events": value.events, "frames": value.frames, "soon": value.soon}
        if not item.name.startswith("_"):
            kept[item.name] = value
    return kept


def _ratio(pairs: Sequence[tuple[float, float]], scale: float) -> Interval | None:
    """Ratio of sums, bootstrapped over videos; videos with nothing to judge are left out."""
    judged = np.array([pair for pair in pairs if pair[1]], np.float64)
    if not len(judged):
        return None

    def figure(times: Counts) -> float:
        top, bottom = times @ judged
        return float(scale * top / bottom)

    return bootstrap(len(judged), figure)
