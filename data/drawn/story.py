"""The plot of a drawn video: how the object, other things, the camera and the light move."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import cv2
import numpy as np

from hsnet_trt.data.drawn.camera import GRAINS, Exposure, draw_exposure
from hsnet_trt.data.drawn.cast import Cast
from hsnet_trt.data.drawn.motion import (
    Matrices,
    Track,
    camera_moves,
    path,
    similarity,
    turned_card,
    wander,
)
from hsnet_trt.data.drawn.render import Cutout
from hsnet_trt.data.drawn.scene import Layer, Scene

_HIDDEN = 0.6  # share of the videos where a screen hides all of the object; else a thing hides part

Random = np.random.Generator


def direct(rng: Random, cast: Cast, size: tuple[int, int], frames: int) -> Scene:
    """Place everything in each of `frames` frames; `size` is (height, width) of a frame."""
    world = camera_moves(rng, size, frames)
    height, width = cast.ground.shape[:2]
    middle = np.array([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, 1]])
    everywhere = Cutout(cast.ground, np.ones((height, width), np.float32))
    layers = [Layer(everywhere, world @ middle)]
    target = _trimmed(cast.target)
    where, scale, times = _story(rng, target, size, frames)
    shown = Layer(target, _placed(rng, target, where, scale, frames, calm=False), wanted=True)
    front: list[Layer] = []
    for thing in map(_trimmed, cast.others):
        spot = rng.uniform(-0.45, 0.45, 2) * size
        drift = wander(rng, (0.08 * size[0], 0.08 * size[1]), frames) + spot
        sizes = rng.uniform(0.3, 0.7) * np.exp(wander(rng, (0.1,), frames)[:, 0])
        layer = Layer(thing, world @ _placed(rng, thing, drift, sizes, frames, calm=True))
        (front if rng.random() < 0.2 else layers).append(layer)
    hides = _hiding(rng, cast, where, target, scale, times, size)
    base, first = draw_exposure(rng)
    other, _ = draw_exposure(rng)
    share = path([(t, (rng.uniform(0, 0.8),)) for t in np.linspace(0, 1, 5)], frames)[:, 0]
    grain = (rng.integers(0, GRAINS, (frames, 2)) + first) % GRAINS
    exposures = tuple(_between(base, other, float(part)) for part in share)
    return Scene(size, (*layers, shown, *front, hides), exposures, grain)


def _story(
    rng: Random, target: Cutout, size: tuple[int, int], frames: int
) -> tuple[Track, Track, float]:
    """(row, column) of the object in each frame [T, 2], its scale [T], and the time it is hidden.

    It stays inside the frame, except once: it leaves over one edge and returns over the same or an
    adjacent one. Times are in 0..1 of the video.
    """
    hidden, away = (0.26, 0.72) if rng.random() < 0.5 else (0.74, 0.28)
    hidden, away = hidden + rng.uniform(-0.03, 0.03), away + rng.uniform(-0.03, 0.03)
    length = max(target.alpha.shape)
    scale = rng.uniform(0.4, 0.65) * min(size) / length * np.exp(wander(rng, (0.15,), frames)[:, 0])
    # Perspective and rotation make it longer, and the path's corners are rounded.
    reach = 0.8 * float(scale.max()) * float(np.hypot(*target.alpha.shape))

    def inside() -> list[float]:
        return list(rng.uniform(0.3, 0.7, 2) * size)

    first, last = inside(), inside()
    corner = [-reach if rng.random() < 0.5 else size[k] + reach for k in (0, 1)]
    edge = int(rng.integers(0, 2))
    other = edge if rng.random() < 0.5 else 1 - edge
    first[edge], last[other] = corner[edge], corner[other]
    keys = [(time, inside()) for time in np.arange(0, 1.01, 0.17) if abs(time - away) > 0.2]
    keys += [(away - 0.18, inside()), (away - 0.07, first)]
    # From one edge to the other, around the corner.
    keys += [(away, corner)] if other != edge else []
    keys += [(away + 0.07, last), (away + 0.18, inside())]
    where = path(sorted(keys, key=lambda key: key[0]), frames)
    return where, scale, hidden


def _hiding(
    rng: Random,
    cast: Cast,
    where: Track,
    target: Cutout,
    scale: Track,
    time: float,
    size: tuple[int, int],
) -> Layer:
    """What passes in front of the object: a screen that hides it for a while, or another thing."""
    frames = len(where)
    side = 1.0 if rng.random() < 0.5 else -1.0
    there = side * float(size[1]) * 1.2
    back = there if rng.random() < 0.5 else -there
    if rng.random() < _HIDDEN or not cast.others:
        broad = int(1.35 * scale.max() * np.hypot(*target.alpha.shape))
        piece = np.asarray(cv2.resize(cast.screen, (broad, 2 * size[0])), np.float32)
        cutout = Cutout(piece, np.ones(piece.shape[:2], np.float32))
        keys = [(-0.15, there), (-0.07, 0.0), (0.07, 0.0), (0.15, back)]
        lean, zoom = wander(rng, (0.02,), frames)[:, 0], np.ones(frames)
        row = np.full(frames, size[0] / 2)
    else:
        cutout = _trimmed(cast.others[int(rng.integers(len(cast.others)))])
        keys = [(-0.15, there), (0.15, -there)]
        lean, zoom = wander(rng, (0.3,), frames)[:, 0], np.full(frames, float(scale.mean()))
        row = where[:, 0] + rng.normal(0, 0.06) * size[0]
    offset = path([(time + when, (value,)) for when, value in keys], frames)[:, 0]
    flat = np.zeros(frames)
    card = turned_card((cutout.alpha.shape[0], cutout.alpha.shape[1]), flat, flat, flat)
    return Layer(cutout, similarity(where[:, 1] + offset, row, zoom, lean) @ card)


def _placed(
    rng: Random, thing: Cutout, where: Track, scale: Track, frames: int, *, calm: bool
) -> Matrices:
    """Rotate a thing in space, with its centre at (row, column) [T, 2]."""
    roll = rng.normal(0, 0.2) + wander(rng, (0.1 if calm else 0.35,), frames)[:, 0]
    if not calm and rng.random() < 0.25:
        roll = roll + path([(0.1, (0.0,)), (0.9, (2 * np.pi,))], frames)[:, 0]
    yaw = wander(rng, (0.15 if calm else 0.5,), frames)[:, 0]
    pitch = wander(rng, (0.1 if calm else 0.25,), frames)[:, 0]
    card = turned_card((thing.alpha.shape[0], thing.alpha.shape[1]), roll, yaw, pitch)
    return similarity(where[:, 1], where[:, 0], scale, np.zeros(frames)) @ card


def _trimmed(cutout: Cutout) -> Cutout:
    """The cut-out without its empty margin."""
    seen = cutout.alpha > 0.02
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return Cutout(
        np.ascontiguousarray(cutout.colour[part]), np.ascontiguousarray(cutout.alpha[part])
    )


def _between(one: Exposure, other: Exposure, share: float) -> Exposure:
    mixed: dict[str, Any] = {
        item.name: (1 - share) * getattr(one, item.name) + share * getattr(other, item.name)
        for item in fields(Exposure)
    }
    return Exposure(**mixed)
