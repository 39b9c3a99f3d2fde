"""mIoU and FB-IoU as HSNet's authors compute them, with confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hsnet_trt.data.episodes.episode import Episode, Mask
from hsnet_trt.errors import InputError

Counts = npt.NDArray[np.int64]
_NEAR = 0.02  # of the diagonal: the value of boundary IoU's authors


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


def share_interval(times: int, of: int) -> Interval:
    """`times` out of `of` in percent, with the 95 % Wilson score interval.

    It is valid at 0 and 100 %, too. (E. B. Wilson, Probable inference, the law of succession, and
    statistical inference, 1927.)
    """
    z, share = 1.959964, times / of
    centre = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * float(np.sqrt(share * (1 - share) / of + z**2 / (4 * of**2)))
    return Interval(100 * share, 100 * max(0.0, centre - half), 100 * min(1.0, centre + half))


def bootstrap(
    count: int, figure: Callable[[Counts], float], *, confidence: float = 0.95, rounds: int = 1000
) -> Interval:
    """A figure with its percentile bootstrap interval (resampling with replacement).

    Args:
        count: number of samples.
        figure: how often each sample was drawn, int64 [count] -> the figure.
        confidence: share of the bootstrap distribution inside the interval, 0..1.
        rounds: number of resamples.
    """
    rng = np.random.default_rng(0)
    drawn = [
        figure(np.bincount(rng.integers(0, count, count), minlength=count)) for _ in range(rounds)
    ]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(figure(np.ones(count, np.int64)), float(low), float(high))


def overlap(answer: Mask, truth: Mask, ignore: Mask | None = None) -> tuple[Counts, Counts]:
    """Count the pixels of one episode.

    Args:
        answer: bool [H, W].
        truth: bool [H, W].
        ignore: bool [H, W], pixels to leave out; None counts all.

    Returns:
        (intersection, union), int64 [2] each: background, foreground.

    Raises:
        InputError: the shapes differ.
    """
    for other in (truth, ignore):
        if other is not None and other.shape != answer.shape:
            raise InputError(
                "an answer does not fit its episode", expected=other.shape, found=answer.shape
            )
    judged = np.ones(answer.shape, np.bool_) if ignore is None else ~ignore
    both = int((answer & truth & judged).sum())
    either = int(((answer | truth) & judged).sum())
    total = int(judged.sum())
    # Both are background where neither is foreground; one is where not both are foreground.
    return np.array([total - either, both]), np.array([total - both, either])


def boundary(mask: Mask) -> Mask:
    """The part of a mask that is near its border, bool [H, W]: what boundary IoU compares.

    Near means within 2 % of the diagonal; the picture's edge counts as a border, too. (B. Cheng et
    al., Boundary IoU: improving object-centric image segmentation evaluation, CVPR 2021.)
    """
    height, width = mask.shape
    near = max(1, round(_NEAR * float(np.hypot(height, width))))
    # A pixel is inside if the square around it is: sums over squares, from running sums.
    sums = np.pad(mask.astype(np.int64), ((near + 1, near), (near + 1, near)))
    sums = sums.cumsum(0).cumsum(1)
    side = 2 * near + 1
    squares = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return np.asarray(mask & (squares < side * side))


@dataclass
class Score:
    """Pixel counts of episodes, and the figures computed from them.

    Attributes:
        classes: class id -> name of the classes that are judged.
    """

    classes: Mapping[int, str]
    _class_ids: list[int] = field(default_factory=list)
    _intersections: list[Counts] = field(default_factory=list)
    _unions: list[Counts] = field(default_factory=list)

    def add(self, episode: Episode, answer: Mask) -> float:
        """Count one answer, bool, shaped as the episode's query_mask; returns its IoU in percent.

        Raises:
            InputError: the class is not judged, or the shapes differ.
        """
        if episode.class_id not in self.classes:
            raise InputError(
                "an episode is of a class that is not judged",
                expected=f"one of {sorted(self.classes)}",
                found=episode.class_id,
            )
        intersection, union = overlap(answer, episode.query_mask, episode.ignore)
        self._class_ids.append(episode.class_id)
        self._intersections.append(intersection)
        self._unions.append(union)
        return 100 * float(intersection[1]) / max(int(union[1]), 1)

    def __len__(self) -> int:
        return len(self._class_ids)

    def miou(self) -> float:
        """Mean IoU in percent: counts are summed per class, then the classes' IoUs are averaged.

        Classes without an episode are left out (the published protocols show all classes).

        Raises:
            InputError: no episode was counted.
        """
        return _miou(*self._sums())

    def fb_iou(self) -> float:
        """Mean of foreground IoU and background IoU, in percent, each over the counts of all."""
        return _fb_iou(*self._sums())

    def per_class(self) -> dict[str, float]:
        """Class name -> IoU in percent, for every class with an episode."""
        intersections, unions, shown = self._sums()
        return {
            name: 100 * float(intersections[row, 1]) / max(int(unions[row, 1]), 1)
            for row, name in enumerate(self.classes.values())
            if shown[row]
        }

    def miou_interval(self, *, confidence: float = 0.95, rounds: int = 1000) -> Interval:
        """mIoU with its percentile bootstrap interval (episodes resampled with replacement)."""
        return self._interval(_miou, confidence, rounds)

    def fb_iou_interval(self, *, confidence: float = 0.95, rounds: int = 1000) -> Interval:
        """FB-IoU with its percentile bootstrap interval."""
        return self._interval(_fb_iou, confidence, rounds)

    def _interval(
        self, figure: Callable[[Counts, Counts, Counts], float], confidence: float, rounds: int
    ) -> Interval:
        # Multiplying counts by how often an episode was drawn gives the sums of the resample.
        rows, counts = self._table()

        def drawn(times: Counts) -> float:
            return figure(*_per_class(rows, counts, times, len(self.classes)))

        return bootstrap(len(self), drawn, confidence=confidence, rounds=rounds)

    def _sums(self) -> tuple[Counts, Counts, Counts]:
        """(intersections [C, 2], unions [C, 2], episodes [C]), summed per class."""
        rows, counts = self._table()
        return _per_class(rows, counts, np.ones(len(self), np.int64), len(self.classes))

    def _table(self) -> tuple[Counts, Counts]:
        """(row of the class [N], intersections and unions [N, 4]) of every episode."""
        if not len(self):
            raise InputError("there is nothing to judge", expected="episodes", found="none")
        row_of = {class_id: row for row, class_id in enumerate(self.classes)}
        rows = np.array([row_of[class_id] for class_id in self._class_ids])
        both = np.concatenate([np.stack(self._intersections), np.stack(self._unions)], axis=1)
        return rows, both


def _per_class(
    rows: Counts, counts: Counts, times: Counts, classes: int
) -> tuple[Counts, Counts, Counts]:
    sums = np.zeros((classes, 4), np.int64)
    np.add.at(sums, rows, counts * times[:, None])
    shown = np.zeros(classes, np.int64)
    np.add.at(shown, rows, times)
    return sums[:, :2], sums[:, 2:], shown


def _miou(intersections: Counts, unions: Counts, shown: Counts) -> float:
    judged = shown > 0
    per_class = intersections[judged, 1] / np.maximum(unions[judged, 1], 1)
    return 100 * float(per_class.mean())


def _fb_iou(intersections: Counts, unions: Counts, shown: Counts) -> float:
    return 100 * float((intersections.sum(0) / np.maximum(unions.sum(0), 1)).mean())
