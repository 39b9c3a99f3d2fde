"""How far an answer can be trusted: what must hold before a frame is remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.runtime.matching.graphs import SUPPORTS
from hsnet_trt.runtime.matching.packing import Shot
from hsnet_trt.runtime.pictures.preprocess import Floats

# Found on drawn videos of the validation classes (docs/video.md): of the answers that pass all
# three, 93 % have an IoU above 0.5; of all answers, 36 %.
_SURE = 4.0  # logit of the surest position: a softmax of 0.982
_LEAST, _MOST = 0.004, 0.5  # of the picture
ALIKE = 0.28  # cosine of mean features

Vector = npt.NDArray[np.float32]


def is_sharp(plane: Floats) -> bool:
    """Whether an answer is certain somewhere and shows the whole object.

    Args:
        plane: logit 1 - logit 0 at decoder resolution, float32 [h,w].
    """
    inside = plane > 0
    share = float(inside.mean())
    if float(plane.max()) < _SURE or not _LEAST < share < _MOST:
        return False
    # What touches the border goes on outside; the largest wrong answers do.
    edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
    return not any(edge.any() for edge in edges)


def mean_features(shot: Shot) -> Vector:
    """The mean feature under a shot's mask at the coarsest level, float32 [L,C], each of length 1.

    Zero where the mask vanishes at that level.
    """
    summed: Any = shot[SUPPORTS[-1]].values.astype(np.float32).sum(axis=1)
    length = np.linalg.norm(summed, axis=1, keepdims=True)
    return np.asarray(summed / np.maximum(length, 1e-9), np.float32)


def likeness(one: Vector, others: Sequence[Vector]) -> float:
    """The largest cosine to one of several means, averaged over the layers; -1 to 1."""
    return max(float((one * other).sum(axis=1).mean()) for other in others)
