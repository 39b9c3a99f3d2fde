"""Accuracy: networks and trivial answers judged on the same episodes, by the paper's protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from hsnet_trt.benchmarks.accuracy.answers import JudgedNetwork, timed
from hsnet_trt.benchmarks.accuracy.trivial import Trivial
from hsnet_trt.data.episodes.episode import Episode, Episodes, Mask, Skipped
from hsnet_trt.data.episodes.metrics import Interval, Score, boundary, share_interval
from hsnet_trt.errors import InputError

JUDGED = 1000  # episodes of what never ends
SOMETHING = 0.005  # of the picture: an answer of less counts as nothing found
_SHOWN = 6  # episodes on the sheet

OnEpisode = Callable[[str, int, int], None]  # what is being done, episodes done, episodes in all


@dataclass(frozen=True)
class Row:
    """What one network or trivial answer came to; all figures in percent.

    Attributes:
        name: who answered.
        on: what ran it, in words; empty for trivial answers.
        trivial: it has no squeeze network.
        miou, fb_iou: with a 95 % bootstrap interval over episodes.
        found: share of the episodes in which something was found, right or wrong, with a 95 %
            interval (Wilson); "something" is at least 0.5 % of the picture.
        shown: the same of what is shown, where nothing is that does not count as present; None for
            trivial answers.
        area: share of the pictures that the answers cover, in the mean.
        boundary: boundary IoU, its classes averaged as those of mIoU are, with a 95 % bootstrap
            interval.
        per_class: class name -> IoU.
        difference: of mIoU to the first network's; None for itself and for trivial answers.
        changed: share of the judged pixels that are answered otherwise than by the first network.
        seconds: per episode, supports and query, in the mean.
    """

    name: str
    on: str
    trivial: bool
    miou: Interval
    fb_iou: Interval
    found: Interval
    shown: Interval | None
    area: float
    boundary: Interval
    per_class: dict[str, float]
    difference: float | None
    changed: float | None
    seconds: float


@dataclass(frozen=True)
class Accuracy:
    """A judgement.

    Attributes:
        data: what the episodes are of.
        episodes: how many were judged.
        shots: supports in each.
        size: (height, width) of the network's input.
        original_size: judged at the queries' own size.
        form: "clean", "mosaic" or "absent", as `data.episodes.forms` makes them; where the class
            is absent, `found` and `area` count, and mIoU and FB-IoU say nothing.
        rows: the networks, the reference first, then the trivial answers.
        left_out: one line for each broken file.
        shown: numbers of the episodes that the sheet shows, and why these, in words.
    """

    data: str
    episodes: int
    shots: int
    size: tuple[int, int]
    original_size: bool
    form: str
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    shown: tuple[int, ...]
    shown_for: str

    @property
    def best_trivial(self) -> Row | None:
        """The trivial answer to beat; None where the class is absent."""
        rows = [row for row in self.rows if row.trivial and self.form != "absent"]
        return max(rows, key=lambda row: row.miou.value) if rows else None


@dataclass
class _Counts:
    name: str
    on: str
    trivial: bool
    answer: Callable[[Episode], Mask]
    score: Score
    borders: Score  # of the masks' borders
    ious: list[float] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    network: JudgedNetwork | None = None
    present: list[bool] = field(default_factory=list)
    changed: list[tuple[int, int]] = field(default_factory=list)  # pixels changed, pixels judged
    seconds: float = 0.0

    def judge(self, episode: Episode, reference: Mask | None) -> Mask:
        answer, seconds = timed(self.answer, episode)
        self.seconds += seconds
        if self.network is not None:
            self.present.append(self.network.says_present)
        self.ious.append(self.score.add(episode, answer))
        border = dataclasses.replace(episode, query_mask=boundary(episode.query_mask))
        self.borders.add(border, boundary(answer))
        self.areas.append(float(answer.mean()))
        if reference is not None:
            judged = np.ones_like(answer) if episode.ignore is None else ~episode.ignore
            self.changed.append((int(((answer != reference) & judged).sum()), int(judged.sum())))
        return answer

    def found(self) -> Interval:
        """How often something was found."""
        return share_interval(sum(area >= SOMETHING for area in self.areas), len(self.areas))

    def shares(self) -> list[float]:
        """By episode, the share of the pixels that changed."""
        return [100 * changed / max(judged, 1) for changed, judged in self.changed]


def evaluate(
    networks: Sequence[JudgedNetwork],
    trivial: Sequence[Trivial],
    episodes: Episodes,
    *,
    count: int | None = None,
    skip_bad: Skipped | None = None,
    original_size: bool = False,
    form: str = "clean",
    on_episode: OnEpisode = lambda what, done, total: None,
) -> Accuracy:
    """Judge networks and trivial answers on the same episodes.

    Args:
        networks: at least one; the first is what the others are compared with.
        trivial: answers that need no squeeze network.
        episodes: of the size that the networks take.
        count: how many, from the first; by default all, or 1000 of what never ends.
        skip_bad: where broken episodes are noted; None raises at the first.
        original_size: only to be written down; `episodes` has been opened so.
        form: what `episodes` has been brought into.
        on_episode: called before each episode.

    Raises:
        InputError: a broken file, or nothing to judge.
        BackendError: a network failed.
    """
    if count is None:
        count = JUDGED if episodes.count is None else episodes.count
    elif episodes.count is not None:
        count = min(count, episodes.count)
    classes = episodes.classes
    counted = [
        _Counts(n.name, n.on, False, n.answer, Score(classes), Score(classes), network=n)
        for n in networks
    ] + [_Counts(t.name, "", True, t.answer, Score(classes), Score(classes)) for t in trivial]
    numbers: list[int] = []
    shots, size = 0, (0, 0)
    for number in range(count):
        on_episode(episodes.name, number, count)
        try:
            episode = episodes[number]
        except InputError as error:
            if skip_bad is None:
                raise
            skip_bad.add(error)
            continue
        shots, size = episode.shots, (episode.query.shape[0], episode.query.shape[1])
        reference: Mask | None = None
        for counts in counted:
            answer = counts.judge(episode, None if counts.trivial else reference)
            reference = answer if reference is None else reference
        numbers.append(number)
    on_episode(episodes.name, count, count)
    if not numbers:
        raise InputError(
            f"no episode of {episodes.name} could be judged",
            expected="one at least",
            fix="look at --data, --root and --episodes",
        )
    shown, shown_for = _choose(counted, numbers, form)
    return Accuracy(
        data=episodes.name,
        episodes=len(numbers),
        shots=shots,
        size=size,
        original_size=original_size,
        form=form,
        rows=tuple(_row(t, counted[0]) for t in counted),
        left_out=tuple(skip_bad.files) if skip_bad else (),
        shown=shown,
        shown_for=shown_for,
    )


def _row(counts: _Counts, first: _Counts) -> Row:
    compared = bool(counts.changed)
    found = [area >= SOMETHING for area in counts.areas]
    shown = [a and b for a, b in zip(found, counts.present, strict=False)]
    changed, judged = np.array(counts.changed or [(0, 1)]).sum(axis=0)
    return Row(
        name=counts.name,
        on=counts.on,
        trivial=counts.trivial,
        miou=counts.score.miou_interval(),
        fb_iou=counts.score.fb_iou_interval(),
        found=counts.found(),
        shown=None if counts.network is None else share_interval(sum(shown), len(shown)),
        area=100 * float(np.mean(counts.areas)),
        boundary=counts.borders.miou_interval(),
        per_class=counts.score.per_class(),
        difference=counts.score.miou() - first.score.miou() if compared else None,
        changed=100 * float(changed) / float(judged) if compared else None,
        seconds=counts.seconds / len(counts.score),
    )


def _choose(counted: list[_Counts], numbers: list[int], form: str) -> tuple[tuple[int, ...], str]:
    """Choose the episodes to show: those that changed most, or good and bad ones alike."""
    compared = [counts for counts in counted if counts.changed]
    if compared:
        worst = np.max([counts.shares() for counts in compared], axis=0)
        order = np.argsort(-worst, kind="stable")[:_SHOWN]
        return tuple(numbers[i] for i in order), "the episodes that changed most"
    if form == "absent":
        order, why = np.argsort(-np.array(counted[0].areas), kind="stable"), "from much to nothing"
    else:
        order, why = np.argsort(counted[0].ious, kind="stable"), "from the worst answer to the best"
    places = np.unique(np.linspace(0, len(order) - 1, _SHOWN).astype(int))
    return tuple(numbers[i] for i in order[places]), why
