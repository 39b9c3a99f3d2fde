"""Tests that a frame's answer must pass before the frame is remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.runtime.matching.graphs import SUPPORTS
from hsnet_trt.runtime.matching.packing import Shot
from hsnet_trt.runtime.pictures.preprocess import Floats

# Chosen on drawn videos of the validation classes (docs/video.md): of the answers that pass all
# three tests, 93 % have an IoU above 0.5; of all answers, 36 %.
_SURE = 4.0  # logit that the highest position must reach: a softmax of 0.982
_LEAST, _MOST = 0.004, 0.5  # foreground's share of the picture
ALIKE = 0.28  # cosine of mean features, at least

Vector = npt.NDArray[np.float32]


def is_sharp(plane: Floats) -> bool:
    """Whether a mask has a confident peak, a plausible area, and does not touch the border.

    Args:
        plane: logit 1 - logit 0 at decoder resolution, float32 [h,w].
    """
    inside = plane > 0
    share = float(inside.mean())
    if float(plane.max()) < _SURE or not _LEAST < share < _MOST:
        return False
    # An object at the border is cut off, and the largest wrong masks reach the border.
    edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
    return not any(edge.any() for edge in edges)


def mean_features(shot: Shot) -> Vector:
    """The unit mean feature under a shot's mask at the coarsest level, float32 [L,C].

    Zero if the mask vanishes at that level.
    """
    summed: Any = shot[SUPPORTS[-1]].values.astype(np.float32).sum(axis=1)
    length = np.linalg.norm(summed, axis=1, keepdims=True)
    return np.asarray(summed / np.maximum(length, 1e-9), np.float32)


def likeness(one: Vector, others: Sequence[Vector]) -> float:
    """The cosine to the most similar of several means, averaged over layers; -1 to 1."""
    return max(float((one * other).sum(axis=1).mean()) for other in others)
