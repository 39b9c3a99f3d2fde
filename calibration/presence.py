"""The score from which a class counts as present, chosen on episodes with and without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hsnet_trt.calibration.collect import Progress, some_object
from hsnet_trt.calibration.episodes import encode
from hsnet_trt.data.episodes.episode import Episode, Episodes
from hsnet_trt.data.episodes.forms import in_form
from hsnet_trt.errors import InputError
from hsnet_trt.runtime.matching.presence import objects_in, presence, score_queries
from hsnet_trt.runtime.network import Network

LEAST = 8  # episodes of each kind


@dataclass(frozen=True)
class Threshold:
    """A score from which a class counts as present, and how well it separates.

    Attributes:
        value: in [0,1].
        kept: share of the episodes with the class that score at least `value`.
        silent: share of the episodes without the class that score below it.
        there, absent: the scores with and without the class, in the order of the episodes.
    """

    value: float
    kept: float
    silent: float
    there: tuple[float, ...]
    absent: tuple[float, ...]


def calibrate_presence(
    network: Network,
    episodes: Episodes,
    count: int | None = None,
    *,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> Threshold:
    """Score episodes in the forms "clean" and "absent", and choose the threshold.

    Args:
        network: computes the scores.
        episodes: of the network's size, with pictures that show one class each.
        count: episodes of each form; by default all.
        seed: of the random choices in the forms.
        progress: called before each episode.

    Raises:
        InputError: too few episodes, or only one class.
        BackendError: the network failed.
    """
    least = count or LEAST  # all there are may have some whose object vanishes
    count = count or episodes.count
    if count is None or count < LEAST:
        raise InputError(
            "a threshold cannot be chosen on so few episodes",
            expected=f"at least {LEAST}",
            found=count if count is not None else "an endless source, and no --episodes",
        )
    there, absent = (
        tuple(
            presence_of(network, episode)
            for episode in some_object(
                in_form(episodes, form, seed), count, least=least, progress=progress
            )
        )
        for form in ("clean", "absent")
    )
    return choose_threshold(there, absent)


def presence_of(network: Network, episode: Episode) -> float:
    """The presence score of an episode's class in its query, in [0,1]."""
    encoded = encode(network.runner, episode, network.size, network.preprocessing)
    objects = objects_in(encoded.supports)
    found = score_queries(encoded.query["f4"], objects)[0]
    (score,) = presence(found, objects.counts, [episode.shots])
    return score


def choose_threshold(there: Sequence[float], absent: Sequence[float]) -> Threshold:
    """The threshold with the highest kept + silent: 0, or midway between two scores.

    The lowest of equally good ones, so that what is there is shown.
    """
    best = max(_candidates(there, absent), key=lambda t: (t.kept + t.silent, -t.value))
    return best


def threshold_keeping(there: Sequence[float], absent: Sequence[float], share: float) -> Threshold:
    """The highest threshold that keeps at least `share` (0..1) of the episodes with the class."""
    return max(
        (t for t in _candidates(there, absent) if t.kept >= share), key=lambda found: found.value
    )


def _candidates(there: Sequence[float], absent: Sequence[float]) -> Iterator[Threshold]:
    scores = np.unique([0.0, *there, *absent, 1.0])
    for value in (0.0, *((scores[1:] + scores[:-1]) / 2)):
        kept = float(np.mean(np.asarray(there) >= value))
        silent = float(np.mean(np.asarray(absent) < value))
        yield Threshold(float(value), kept, silent, tuple(there), tuple(absent))
