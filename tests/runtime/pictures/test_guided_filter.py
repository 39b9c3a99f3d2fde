"""The guided filter, against its definition in float64, window by window; colours beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.pictures.colour_model import colour_evidence
from hsnet_trt.runtime.pictures.guided_filter import EPSILON, SUREST, radius, refine

POLICY = Preprocessing()
STD = POLICY.std


def enlarged(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear with align_corners: one axis after the other."""
    for axis, count in enumerate(size):
        at = np.linspace(0, plane.shape[axis] - 1, count)
        known = np.arange(plane.shape[axis])
        plane = np.apply_along_axis(
            lambda v, at=at, known=known: np.interp(at, known, v), axis, plane
        )
    return plane


def coarser(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What is around each position, weighted by a triangle as wide as a step."""
    sums = np.zeros(size)
    steps = [(n - 1) / (m - 1) for n, m in zip(plane.shape, size, strict=True)]
    for y, x in np.ndindex(*size):
        weights = [
            np.maximum(0, 1 - np.abs(np.arange(n) - i * step) / step)
            for n, i, step in zip(plane.shape, (y, x), steps, strict=True)
        ]
        weight = np.outer(*weights)
        sums[y, x] = (weight * plane).sum() / weight.sum()
    return sums


def window(y: int, x: int, shape: tuple[int, int]) -> tuple[slice, slice]:
    ry, rx = radius(shape[0]), radius(shape[1])
    return slice(max(0, y - ry), y + ry + 1), slice(max(0, x - rx), x + rx + 1)


def by_definition(logits: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Refined 2p - 1 of one shot's logits [2,h,w], float64 [2h,2w]: the paper, 11 to 14."""
    height, width = shape = logits.shape[1:]
    finer = (2 * height, 2 * width)
    fine = [enlarged(plane * std, finer) for plane, std in zip(picture, STD, strict=True)]
    guide = np.stack([coarser(plane, shape) for plane in fine])
    difference = logits[1] - logits[0]
    colours = guide + np.array(POLICY.mean)[:, None, None]
    difference += colour_evidence(difference[None], colours)[0]
    value = 2 / (1 + np.exp(-difference)) - 1
    lines = np.zeros((4, *shape))
    for y, x in np.ndindex(*shape):
        rows, columns = window(y, x, shape)
        colours, values = guide[:, rows, columns].reshape(3, -1), value[rows, columns].ravel()
        centre, average = colours.mean(1), values.mean()
        spread = np.cov(colours, bias=True) + EPSILON * np.eye(3)
        with_values = (colours * values).mean(1) - centre * average
        lines[:3, y, x] = np.linalg.solve(spread, with_values)
        lines[3, y, x] = average - lines[:3, y, x] @ centre
    means = np.zeros_like(lines)
    for y, x in np.ndindex(*shape):
        rows, columns = window(y, x, shape)
        means[:, y, x] = lines[:, rows, columns].mean((1, 2))
    slopes_and_offset = [enlarged(plane, finer) for plane in means]
    return sum(a * i for a, i in zip(slopes_and_offset, fine, strict=False)) + slopes_and_offset[3]


@pytest.mark.parametrize(
    ("network", "grid"), [((64, 64), (16, 16)), ((50, 71), (13, 18)), ((9, 40), (34, 8))]
)
def test_it_is_the_guided_filter(network: tuple[int, int], grid: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    picture = rng.normal(0, 1, (3, *network)).astype(np.float32)
    logits = rng.normal(0, 2, (3, 2, *grid)).astype(np.float32)
    refined = refine(logits, picture, POLICY)
    assert refined.shape == (3, 2, 2 * grid[0], 2 * grid[1]) and refined.dtype == np.float32
    assert not refined[:, 0].any()
    for shot, found in zip(logits.astype(np.float64), refined[:, 1], strict=True):
        expected = by_definition(shot, picture.astype(np.float64))
        np.testing.assert_allclose(
            np.tanh(found / 2), np.clip(expected, -SUREST, SUREST), atol=1e-4
        )


def test_an_edge_that_lies_beside_the_pictures_moves_to_it() -> None:
    """A bright half; the logits change sign three positions too far to the right, gently."""
    picture = np.zeros((3, 200, 200), np.float32)
    picture[:, :, 100:] = 2
    logits = np.zeros((1, 2, 100, 100), np.float32)
    logits[0, 1] = np.clip((np.arange(100) - 52.5) / 2, -3, 3)
    refined = refine(logits, picture, POLICY)[0, 1] > 0
    assert ((logits[0, 1] > 0).sum(1) == 47).all()
    assert (abs(refined.sum(1) - 100) <= 1).all()  # of 200


def test_a_picture_without_edges_only_smooths() -> None:
    logits = np.random.default_rng(0).normal(0, 1, (1, 2, 30, 30)).astype(np.float32)
    refined = refine(logits, np.full((3, 120, 120), 0.5, np.float32), POLICY)
    value = np.tanh((logits[0, 1] - logits[0, 0]) / 2)
    assert np.tanh(refined[0, 1] / 2).std() < 0.5 * value.std()
    np.testing.assert_allclose(np.tanh(refined[0, 1] / 2).mean(), value.mean(), atol=0.02)
