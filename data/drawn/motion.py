"""Motion in drawn videos: smooth paths, flat things turned in space, and a shaking camera."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Random = np.random.Generator
Track = npt.NDArray[np.float64]  # [T] or [T, d]
Matrices = npt.NDArray[np.float64]  # [T, 3, 3], homographies of x, y

_SMOOTH = 0.025  # standard deviation of the smoothing of paths, as a share of the video
_DISTANCE = 3.0  # of the camera, in lengths of the thing: sets the strength of the perspective
_SHAKE = 1.5  # smoothing of the camera's shake, in frames
_TURNS = 5  # keys of a wandering path


def path(keys: Sequence[tuple[float, Sequence[float]]], frames: int) -> Track:
    """A smooth path through keys, [T, d].

    Args:
        keys: (time in 0..1 of the video, values), in order. The values are constant before the
            first key and after the last.
        frames: T.
    """
    return _rounded(keys, frames, _SMOOTH * frames)


def _rounded(keys: Sequence[tuple[float, Sequence[float]]], frames: int, sigma: float) -> Track:
    reach = int(np.ceil(3 * sigma))
    times = np.arange(-reach, frames + reach) / max(frames - 1, 1)
    at, values = [time for time, _ in keys], np.array([value for _, value in keys], np.float64)
    lines = np.stack([np.interp(times, at, column) for column in values.T], axis=1)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-9)) ** 2)
    weights /= weights.sum()
    smooth = [np.convolve(column, weights, mode="valid") for column in lines.T]
    return np.stack(smooth, axis=1)


def wander(rng: Random, spread: Sequence[float], frames: int) -> Track:
    """A random path about zero, [T, d]; `spread`: standard deviations, clipped at 2 of them."""
    drawn = np.clip(rng.normal(0, 1, (_TURNS, len(spread))), -2, 2) * spread
    return path(list(zip(np.linspace(0, 1, _TURNS), drawn, strict=True)), frames)


def camera_moves(rng: Random, size: tuple[int, int], frames: int) -> Matrices:
    """The camera's pan, roll, zoom and shake: maps world points (pixels, origin in the middle).

    Args:
        rng: random numbers.
        size: (height, width) of a frame.
        frames: T.
    """
    short = min(size)
    slow = wander(rng, (0.07 * short, 0.09 * short, 0.04, 0.06), frames)
    noise = rng.normal(0, 0.006 * short, (frames, 2))
    shake = _rounded(_every_frame(noise), frames, _SHAKE)
    y, x = (slow[:, k] + shake[:, k] + size[k] / 2 for k in (0, 1))
    return similarity(x, y, np.exp(slow[:, 3]), slow[:, 2])


def _every_frame(values: Track) -> Sequence[tuple[float, Sequence[float]]]:
    """Keys for values that are given for every frame."""
    times = np.linspace(0, 1, len(values))
    return [(float(time), list(value)) for time, value in zip(times, values, strict=True)]


def similarity(x: Track, y: Track, scale: Track, turn: Track) -> Matrices:
    """Rotate and scale about zero, then shift; all arrays are [T]."""
    matrices = np.zeros((len(x), 3, 3))
    cos, sin = np.cos(turn) * scale, np.sin(turn) * scale
    matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 0, 2] = cos, -sin, x
    matrices[:, 1, 0], matrices[:, 1, 1], matrices[:, 1, 2] = sin, cos, y
    matrices[:, 2, 2] = 1
    return matrices


def turned_card(size: tuple[int, int], roll: Track, yaw: Track, pitch: Track) -> Matrices:
    """Show a flat thing rotated in space about its centre, which is mapped to x, y = 0.

    Args:
        size: (height, width) of its picture.
        roll, yaw, pitch: [T], radians: in the picture's plane, about its vertical axis, about its
            horizontal axis.
    """
    far = _DISTANCE * max(size)
    middle = np.array([[1, 0, -(size[1] - 1) / 2], [0, 1, -(size[0] - 1) / 2], [0, 0, 1]])
    one, none = np.ones_like(roll), np.zeros_like(roll)

    def stacked(*rows: Sequence[Track]) -> Matrices:
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)

    about_z = stacked(
        (np.cos(roll), -np.sin(roll), none), (np.sin(roll), np.cos(roll), none), (none, none, one)
    )
    about_y = stacked(
        (np.cos(yaw), none, np.sin(yaw)), (none, one, none), (-np.sin(yaw), none, np.cos(yaw))
    )
    about_x = stacked(
        (one, none, none),
        (none, np.cos(pitch), -np.sin(pitch)),
        (none, np.sin(pitch), np.cos(pitch)),
    )
    turn = about_z @ about_y @ about_x
    # A card has no depth, so the third column, which multiplies z, holds the distance instead.
    seen = turn.copy()
    seen[:, :, 2] = (0, 0, far)
    seen[:, :2, :2] *= far
    return np.asarray(seen @ middle)
