"""A guided filter on the logits, so that mask edges follow the picture's edges.

K. He, J. Sun, X. Tang, Guided image filtering, ECCV 2010; K. He, J. Sun, Fast guided filter, arXiv
1505.00996. In each window of the logits' grid the foreground probability is fitted as a linear
function of colour. The functions of all windows that contain a position are averaged, upsampled to
twice the grid, and applied to the picture at that resolution. This is the fast filter's
subsampling; at the picture's own size the masks were no better. Before that, the colour evidence
of the whole picture is added to the logits (`colour_model`).

The constants were chosen on real photographs: see docs/beyond-the-paper.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.pictures.colour_model import colour_evidence
from hsnet_trt.runtime.pictures.preprocess import Floats

RADIUS = 0.06  # of a window, as a share of the grid's height and width
EPSILON = 1e-4  # added to the variances of colours in [0,1], so that flat windows keep their mean
FINER = 2  # scale of the refined logits' height and width
SUREST = 0.999  # |2p - 1| of a refined probability is clipped to this, so that its logit is finite


def radius(side: int) -> int:
    """Radius of the windows on a grid of that height or width, in positions."""
    return max(1, int(RADIUS * side + 0.5))


def refine(logits: Floats, picture: Floats, preprocessing: Preprocessing) -> Floats:
    """Filter each shot's foreground probability, guided by the picture.

    Args:
        logits: float32 [S,2,h,w] of one query against all shots; h and w are at least 2.
        picture: the network's input, float32 [3,H,W], normalised.
        preprocessing: the normalisation that was used.

    Returns:
        Logits of the refined probabilities, float32 [S,2,2h,2w]; those of the background are 0.
    """
    height, width = logits.shape[2:]
    fine = _sampled(_sampled(picture, FINER * height, 1), FINER * width, 2)
    fine *= np.asarray(preprocessing.std, np.float32)[:, None, None]  # colours minus their mean
    guide = _both(_shrink(height), fine, _shrink(width))

    def mean(planes: Floats) -> Floats:
        return _both(_window_means(height), planes, _window_means(width))

    colours = guide + np.asarray(preprocessing.mean, np.float32)[:, None, None]
    difference = logits[:, 1] - logits[:, 0]
    difference += colour_evidence(difference, colours)
    centre = mean(guide)
    inverse = _inverse_covariance(guide, centre, mean)
    refined = np.zeros((len(logits), 2, *fine.shape[1:]), np.float32)
    for shot, plane in zip(difference, refined[:, 1], strict=True):
        value = np.tanh(shot / 2)  # 2p - 1
        average = mean(value)
        covariance = mean(guide * value) - centre * average
        slope = (inverse * covariance).sum(1)
        offset = average - (slope * centre).sum(0)
        lines = _both(_enlarged_means(height), np.stack([*slope, offset]), _enlarged_means(width))
        plane[...] = (lines[:3] * fine).sum(0) + lines[3]
        np.clip(plane, -SUREST, SUREST, out=plane)
        plane[...] = 2 * np.arctanh(plane)
    return refined


def _inverse_covariance(guide: Floats, centre: Floats, mean: Callable[[Floats], Floats]) -> Floats:
    """Per window, the inverse of (covariance of colours + epsilon * I): float32 [3,3,h,w]."""
    rows, columns = (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)
    products = mean(guide[rows, :] * guide[columns, :]) - centre[rows, :] * centre[columns, :]
    a, b, c, d, e, f = products  # the symmetric matrix [[a, b, c], [b, d, e], [c, e, f]]
    a, d, f = a + EPSILON, d + EPSILON, f + EPSILON
    first = (d * f - e * e, c * e - b * f, b * e - c * d)
    second = (first[1], a * f - c * c, b * c - a * e)
    third = (first[2], second[2], a * d - b * b)
    determinant = a * first[0] + b * first[1] + c * first[2]
    adjugate = np.stack([*first, *second, *third]).reshape(3, 3, *determinant.shape)
    return np.asarray(adjugate / determinant, np.float32)


def _both(rows: Floats, planes: Floats, columns: Floats) -> Floats:
    """`rows @ plane @ columns.T` for each plane of [...,h,w]."""
    return np.asarray(rows @ planes @ columns.T)


@functools.cache
def _window_means(side: int) -> Floats:
    """[side,side]: the mean over each window, clipped to the grid."""
    at = np.arange(side)
    inside = np.abs(at[:, None] - at) <= radius(side)
    return np.asarray(inside / inside.sum(1, keepdims=True), np.float32)


@functools.cache
def _enlarged_means(side: int) -> Floats:
    """[2 * side, side]: the window means, upsampled bilinearly with align_corners."""
    at = np.linspace(0, side - 1, FINER * side)
    return np.asarray(_triangles(at, side, 1.0) @ _window_means(side))


@functools.cache
def _shrink(side: int) -> Floats:
    """[side, 2 * side]: antialiased bilinear downsampling with align_corners."""
    step = (FINER * side - 1) / (side - 1)
    return _triangles(np.arange(side) * step, FINER * side, step)


def _sampled(planes: Floats, count: int, axis: int) -> Floats:
    """Planes resampled bilinearly along one axis to `count` positions, with align_corners."""
    last = planes.shape[axis] - 1
    at = np.linspace(0, last, count)
    low = np.clip(np.floor(at).astype(int), 0, max(0, last - 1))
    weight = (at - low).astype(np.float32).reshape((-1, 1) if axis == 1 else (1, -1))
    first: Floats = planes.take(low, axis)
    second: Floats = planes.take(np.minimum(low + 1, last), axis)
    second -= first
    second *= weight
    first += second
    return first


def _triangles(centres: npt.NDArray[np.floating[Any]], count: int, width: float) -> Floats:
    """[centres,count]: weights that fall linearly to 0 at distance `width`; rows sum to 1."""
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(count)) / width)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)
