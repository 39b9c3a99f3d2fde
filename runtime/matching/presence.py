"""Presence: a score per class of whether a query shows it at all, from features at stride 32.

Masks depend on contrasts within the query, so they mark the most similar region even where the
class is absent. This score is absolute: each position of a support's object takes its best cosine
with any position of the query, and these are averaged. With a background contrast, that average is
itself averaged with the largest product of a query position with the direction from background to
object, which is small where the match is as much like the support's background.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.runtime.matching.packing import Shot
from hsnet_trt.trt_plugins.sizes import EPSILON

OBJECTS = "objects"  # name of `Objects.vectors` among the inputs where frames stay on a GPU

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Seen:
    """Which classes a frame shows.

    Attributes:
        presence: the score of each class, in [0,1].
        present_from: the score from which a class counts as present.
    """

    presence: dict[str, float]
    present_from: float


@dataclass(frozen=True)
class Objects:
    """The objects of S shots at stride 32, as vectors that queries are compared with.

    Attributes:
        vectors: float32 [N,C], or [N+S,C] with a background contrast: the unit feature vectors of
            the N positions under the masks, shot after shot; then each shot's direction from
            background to object.
        counts: int64 [S], how many positions each shot has; 0 if its mask vanishes.
    """

    vectors: Floats
    counts: Counts

    def scores(self, matches: npt.NDArray[np.floating]) -> Floats:
        """The score of each shot in a query, float32 [S] in [0,1].

        Args:
            matches: what `best_matches` returns for the vectors, [N] or [N+S].
        """
        count = int(self.counts.sum())
        owners = np.repeat(np.arange(len(self.counts)), self.counts)
        sums = np.bincount(owners, matches[:count], minlength=len(self.counts))
        alike: Floats = (sums / np.maximum(self.counts, 1)).astype(np.float32)
        if len(matches) == count:
            return alike
        score: Floats = (alike + matches[count:].astype(np.float32)) / np.float32(2)
        return score


def objects_of(shots: Iterable[Shot]) -> Objects:
    """The objects of encoded shots, from their columns at the last layer of level 4."""
    listed = list(shots)
    columns = [shot["s4"].values[-1] for shot in listed]
    contrasts = [shot["c4"].values[-1].sum(axis=0) for shot in listed if "c4" in shot]
    return _objects(columns, contrasts)


def objects_in(encoded: Mapping[str, npt.NDArray[Any]]) -> Objects:
    """The objects of dense encoded supports: `s4` [S,L,C,row], and `c4` [S,1,C,1] if present."""
    columns = [shot[-1].T for shot in encoded["s4"]]
    return _objects(columns, [shot[-1].sum(axis=1) for shot in encoded.get("c4", ())])


def together(parts: Sequence[Objects]) -> Objects:
    """Join the objects of several parts, in order."""
    positions = [part.vectors[: part.counts.sum()] for part in parts]
    contrasts = [part.vectors[part.counts.sum() :] for part in parts]
    vectors = np.concatenate([*positions, *contrasts])
    return Objects(vectors, np.concatenate([part.counts for part in parts]))


def _objects(columns: Sequence[npt.NDArray[Any]], contrasts: Sequence[npt.NDArray[Any]]) -> Objects:
    kept = [part[part.any(axis=1)].astype(np.float32) for part in columns]
    counts = np.array([len(part) for part in kept], np.int64)
    vectors = np.concatenate([*kept, *(vector[None].astype(np.float32) for vector in contrasts)])
    return Objects(vectors, counts)


def score_queries(level4: npt.NDArray[np.floating], objects: Objects) -> Floats:
    """The score of each shot in each query, float32 [B,S] in [0,1].

    Args:
        level4: the queries' features `f4` [B,L,C,row], of any float type.
        objects: of the S shots.
    """
    return np.stack([objects.scores(best_matches(q[-1], objects.vectors)) for q in level4])


def best_matches(features: npt.NDArray[np.floating], vectors: Floats) -> Floats:
    """For each vector, the largest dot product with any of a query's normalised features.

    Args:
        features: of the last layer of level 4, [C,row].
        vectors: [N,C].

    Returns:
        Float32 [N], clipped to [0,1].
    """
    last = features.astype(np.float32)
    unit = last / (np.linalg.norm(last, axis=0, keepdims=True) + np.float32(EPSILON))
    best: Floats = np.matmul(vectors, unit).max(axis=1)
    return np.clip(best, 0, 1)


def presence(scores: Floats, counts: Counts, shots: Sequence[int]) -> list[float]:
    """The score of each class in one query, in [0,1]: the mean over its shots.

    Shots whose object vanishes at stride 32 are left out; if all do, the score is 1, so that the
    class is not taken for absent.

    Args:
        scores: of the shots, [S].
        counts: `Objects.counts` of the shots, [S].
        shots: the number of shots of each class.
    """
    known, classes, first = counts > 0, [], 0
    for count in shots:
        mine = scores[first : first + count][known[first : first + count]]
        classes.append(float(mine.mean()) if len(mine) else 1.0)
        first += count
    return classes
