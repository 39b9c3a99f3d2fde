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

JUDGED = 1000  # default number of episodes of an endless source
SOMETHING = 0.005  # share of the picture; a smaller answer counts as nothing found
_SHOWN = 6  # episodes on the sheet

OnEpisode = Callable[[str, int, int], None]  # what is being done, episodes done, episodes in total


@dataclass(frozen=True)
class Row:
    """The figures of one network or trivial answer, in percent unless stated otherwise.

    Attributes:
        name: of the network or trivial answer.
        on: what ran it, as text; empty for trivial answers.
        trivial: whether it has no squeeze network.
        miou, fb_iou: with a 95 % bootstrap interval over episodes.
        found: share of the episodes in which the answer covers at least 0.5 % of the picture, right
            or wrong, with a 95 % interval (Wilson).
        shown: the same, counting only answers whose class counts as present; None for trivial
            answers.
        area: mean share of the picture that the answers cover.
        boundary: boundary IoU, averaged over classes as mIoU is, with a 95 % bootstrap interval.
        per_class: class name -> IoU.
        difference: mIoU minus that of the first network, in points; None for the first network and
            for trivial answers.
        changed: share of the judged pixels that differ from the first network's answer; None
            likewise.
        seconds: mean per episode, for supports and query.
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
    """The result of an evaluation.

    Attributes:
        data: name of the episodes.
        episodes: number of episodes judged.
        shots: supports per episode.
        size: (height, width) of the network's input.
        original_size: whether answers were judged at the queries' own size.
        form: "clean", "mosaic" or "absent", see `data.episodes.forms`. If the class is absent, only
            `found` and `area` are meaningful, not mIoU and FB-IoU.
        rows: the networks, the reference first, then the trivial answers.
        left_out: one line for each broken file.
        shown, shown_for: numbers of the episodes on the sheet, and why these, as text.
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
        """The trivial answer to beat; None if the class is absent or there is none."""
        rows = [row for row in self.rows if row.trivial and self.form != "absent"]
        return max(rows, key=lambda row: row.miou.value) if rows else None


@dataclass
class _Counts:
    name: str
    on: str
    trivial: bool
    answer: Callable[[Episode], Mask]
    score: Score
    borders: Score  # of the masks' borders, for boundary IoU
    ious: list[float] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    network: JudgedNetwork | None = None
    present: list[bool] = field(default_factory=list)
    changed: list[tuple[int, int]] = field(default_factory=list)  # (pixels changed, pixels judged)
    seconds: float = 0.0

    def judge(self, episode: Episode, answer: Mask, seconds: float, reference: Mask | None) -> None:
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

    def found(self) -> Interval:
        """How often at least 0.5 % of the picture was found."""
        return share_interval(sum(area >= SOMETHING for area in self.areas), len(self.areas))

    def shares(self) -> list[float]:
        """The share of changed pixels in each episode, in percent."""
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
        networks: at least one; the others are compared with the first.
        trivial: answers without a squeeze network.
        episodes: of the networks' input size.
        count: how many of the first ones; by default all, or 1000 of an endless source.
        skip_bad: collects errors of broken episodes, and of supports that a network refuses; None
            raises at the first.
        original_size: only recorded; `episodes` must have been opened with it.
        form: only recorded; the form of `episodes`.
        on_episode: called before each episode.

    Raises:
        InputError: a broken file, or no episode to judge.
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
            # All answer before anything is counted: a bundle refuses an object that is too small.
            answers = _answers(counted, episode)
        except InputError as error:
            if skip_bad is None:
                raise
            skip_bad.add(error)
            continue
        shots, size = episode.shots, (episode.query.shape[0], episode.query.shape[1])
        reference = answers[0][0]
        for place, (counts, (answer, seconds)) in enumerate(zip(counted, answers, strict=True)):
            compared = reference if place and not counts.trivial else None
            counts.judge(episode, answer, seconds, compared)
        numbers.append(number)
    on_episode(episodes.name, count, count)
    if not numbers:
        raise InputError(
            f"no episode of {episodes.name} could be judged",
            expected="one at least",
            found=skip_bad.files[0] if skip_bad else None,
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


def _answers(counted: Sequence[_Counts], episode: Episode) -> list[tuple[Mask, float]]:
    """Every answer and its seconds. Raises InputError, which names the episode's pictures."""
    try:
        return [timed(counts.answer, episode) for counts in counted]
    except InputError as error:
        raise InputError(
            f"{error.summary}: query {episode.query_name}, "
            f"supports {', '.join(episode.support_names)}",
            expected=error.expected,
            found=error.found,
            fix=error.fix,
        ) from error


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
    """Choose the episodes to show: those that changed most, else a range from bad to good."""
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
