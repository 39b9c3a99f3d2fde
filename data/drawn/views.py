"""Views of pieces of photographs: rotated, scaled, tilted, and in another light."""

from __future__ import annotations

import cv2
import numpy as np

from hsnet_trt.data.drawn.render import Cutout, Floats
from hsnet_trt.data.drawn.segments import Photo
from hsnet_trt.data.episodes.episode import Image, Mask

Random = np.random.Generator


def crop(rng: Random, image: Image, size: tuple[int, int]) -> Floats:
    """A random part of a photograph, sometimes mirrored, resized to `size`; float32 [H, W, 3]."""
    zoom = rng.uniform(0.5, 1.0)
    height, width = (min(n, max(8, int(n * zoom))) for n in image.shape[:2])
    top = int(rng.integers(0, image.shape[0] - height + 1))
    left = int(rng.integers(0, image.shape[1] - width + 1))
    part = image[top : top + height, left : left + width]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    resized = cv2.resize(
        np.ascontiguousarray(part), (size[1], size[0]), interpolation=cv2.INTER_AREA
    )
    return np.asarray(resized, np.float32) * _tint(rng)


def _tint(rng: Random) -> Floats:
    return np.exp(rng.normal(0, 0.12) + rng.normal(0, 0.08, 3)).astype(np.float32)


def _view_matrix(
    rng: Random, box: tuple[int, int, int, int], length: float, centre: tuple[float, float]
) -> Floats:
    """A random homography: a box (top, left, bottom, right) gets `length` long, about a centre."""
    top, left, bottom, right = box
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    scale = length / max(bottom - top, right - left, 1)
    turn = rng.uniform(-np.pi, np.pi) if rng.random() < 0.15 else rng.normal(0, 0.35)
    cos, sin = np.cos(turn) * scale, np.sin(turn) * scale
    flip = -1.0 if rng.random() < 0.5 else 1.0
    stretch = np.exp(rng.normal(0, 0.12, 2)) * (flip, 1)
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
    seen = (corners - middle) * stretch @ np.array([[cos, sin], [-sin, cos]])
    # Relative to the shorter side, or a thin piece would be folded over.
    short = scale * min(bottom - top, right - left)
    seen += np.clip(rng.normal(0, 0.07, (4, 2)), -0.2, 0.2) * short + centre[::-1]
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), seen.astype(np.float32))
    return np.asarray(matrix, np.float32)


def _box_of(mask: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def in_place(rng: Random, photo: Photo, mask: Mask, size: tuple[int, int]) -> tuple[Floats, Mask]:
    """A tilted view of a piece in its own photograph, and the piece's mask in that view."""
    box = _box_of(mask)
    long = max(box[2] - box[0], box[3] - box[1])
    # Not so small that most of the view would be outside the photograph.
    fills = max(n / whole for n, whole in zip(size, mask.shape, strict=True))
    length = rng.uniform(0.35, 0.9) * min(size)
    length = float(min(max(length, 0.8 * fills * long), 0.95 * min(size)))
    centre = (rng.uniform(0.3, 0.7) * size[0], rng.uniform(0.3, 0.7) * size[1])
    matrix = _view_matrix(rng, box, length, centre)
    # Beyond its edge the photograph is mirrored, and the piece's mask with it.
    canvas, seen = (
        cv2.warpPerspective(picture, matrix, (size[1], size[0]), borderMode=cv2.BORDER_REFLECT_101)
        for picture in (photo.image, mask.astype(np.uint8) * 255)
    )
    return np.asarray(canvas, np.float32) * _tint(rng), np.asarray(seen > 127)


def cut_out(rng: Random, image: Image, mask: Mask, length: float) -> Cutout:
    """Cut a piece out, about `length` pixels long, tilted and in another light."""
    side = int(length * 1.7) + 4
    matrix = _view_matrix(rng, _box_of(mask), length, (side / 2, side / 2))
    colour = cv2.warpPerspective(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpPerspective(mask.astype(np.uint8) * 255, matrix, (side, side))
    soft = cv2.GaussianBlur(np.asarray(alpha, np.float32) / 255, (0, 0), 0.7)
    return Cutout(np.asarray(colour, np.float32) * _tint(rng), np.asarray(soft, np.float32))


def in_colours_of(piece: Cutout, other: Cutout) -> Cutout:
    """A piece with the colours' mean and standard deviation of another one, per channel."""
    inside, wanted = piece.colour[piece.alpha > 0.5], other.colour[other.alpha > 0.5]
    if not len(inside) or not len(wanted):
        return piece
    gain = wanted.std(axis=0) / np.maximum(inside.std(axis=0), 1)
    colour = (piece.colour - inside.mean(axis=0)) * gain + wanted.mean(axis=0)
    return Cutout(np.clip(colour, 0, 255).astype(np.float32), piece.alpha)
