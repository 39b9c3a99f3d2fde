"""Is a class there at all? How like its objects the best position of a query is, at stride 32.

Masks are made of contrasts within the query and find the best of what there is; this does not, and
so it stays low where nothing is like the object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hsnet_trt.runtime.matching.packing import Shot

OBJECTS = "objects"  # beside the encoded supports where frames stay on a GPU
EPSILON = 1e-5  # added to the norm of a feature

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Seen:
    """Which classes a frame shows.

    Attributes:
        presence: the score of each class, in [0,1].
        present_from: the score from which one counts as present.
    """

    presence: dict[str, float]
    present_from: float


def objects_of(shots: Iterable[Shot]) -> Floats:
    """The mean direction of each shot's object, unit vectors [S,C]; zero where it vanishes.

    Of the last layer of level 4, whose encoded features are unit vectors themselves.
    """
    return _unit(np.stack([shot["s4"].values[-1].astype(np.float32).sum(axis=0) for shot in shots]))


def objects_in(level4: npt.NDArray[np.floating]) -> Floats:
    """The same of encoded supports `s4` [S,L,C,row]."""
    return _unit(level4[:, -1].astype(np.float32).sum(axis=2))


def _unit(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Floats = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return found


def likeness(level4: npt.NDArray[np.floating], objects: Floats) -> Floats:
    """The largest cosine of any position of each query with each object, float32 [B,S] in [0,1].

    Args:
        level4: the queries' features `f4` [B,L,C,row], of any float type.
        objects: of `objects_of`, [S,C].
    """
    last = level4[:, -1].astype(np.float32)
    unit = last / (np.linalg.norm(last, axis=1, keepdims=True) + np.float32(EPSILON))
    best: Floats = np.matmul(objects, unit).max(axis=2)
    return np.clip(best, 0, 1)


def presence(alike: Floats, objects: Floats, shots: Sequence[int]) -> list[float]:
    """The score of each class in [0,1]: the mean likeness [S] of its shots to one query.

    A shot whose object vanishes at stride 32 says nothing; where all do, the score is 1, so that
    the class is not taken for absent.
    """
    known, scores, first = np.asarray(objects.any(axis=1), np.bool_), [], 0
    for count in shots:
        mine = alike[first : first + count][known[first : first + count]]
        scores.append(float(mine.mean()) if len(mine) else 1.0)
        first += count
    return scores
