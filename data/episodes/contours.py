"""Contours of masks, and how close those of an answer are to the true ones."""

from __future__ import annotations

import numpy as np

from hsnet_trt.data.episodes.episode import Mask

_TOLERANCE = 0.008  # of the diagonal, as in DAVIS


def contour(mask: Mask) -> Mask:
    """The border of a mask, bool [H, W]: pixels unlike their right, lower or diagonal neighbour."""
    border = np.zeros_like(mask)
    border[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    border[:-1] |= mask[:-1] != mask[1:]
    border[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return border


def contour_tolerance(size: tuple[int, int]) -> int:
    """By how many pixels a contour may be off in a picture of (height, width)."""
    return int(np.ceil(_TOLERANCE * np.hypot(*size)))


def boundary_f(answer: Mask, truth: Mask) -> float:
    """Contour accuracy F, 0..1: the harmonic mean of the contours' precision and recall.

    A contour pixel is matched if the other contour passes within 0.008 of the diagonal. If neither
    mask has a contour (nothing marked, or everything), F is 1; if only one has none, F is 0.

    Args:
        answer: bool [H, W].
        truth: bool [H, W].
    """
    found, wanted = contour(answer), contour(truth)
    if not found.any() or not wanted.any():
        return float(found.any() == wanted.any())
    radius = contour_tolerance((truth.shape[0], truth.shape[1]))
    precision = float(_widened(wanted, radius)[found].mean())
    recall = float(_widened(found, radius)[wanted].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _widened(mask: Mask, radius: int) -> Mask:
    """All pixels within `radius` of a mask."""
    import cv2

    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = (x * x + y * y <= radius * radius).astype(np.uint8)
    wide = cv2.dilate(mask.astype(np.uint8), disc, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(wide > 0)
