"""What the kernels of `kernels/frames.cu` compute, in NumPy, step by step in their own rounding.

Tests hold it to the CPU path (Pillow, `postprocess`), and a GPU's answers are held to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.runtime.engines.frame_tables import PRECISION, Tables
from hsnet_trt.runtime.pictures.preprocess import Floats, Placement


def prepare(
    pixels: npt.NDArray[np.uint8],
    placement: Placement,
    tables: Tables,
    scale: Floats,
    shift: Floats,
    *,
    swap: bool = False,
) -> Floats:
    """`hsnet_prepare`: a photograph resized as Pillow does it, then `value * scale + shift`.

    Args:
        pixels: uint8 [H,W,3]; rows may lie further apart than their pixels.
        placement: where it goes in the network's input.
        tables: of that placement.
        scale: float32 [3].
        shift: float32 [3].
        swap: the photograph is BGR.

    Returns:
        float32 [3,h,w], 0 in the margins.
    """
    wide = _resample(pixels, tables.columns, tables.column_taps)
    tall = _resample(wide.transpose(1, 0, 2), tables.rows, tables.row_taps).transpose(1, 0, 2)
    if swap:
        tall = tall[:, :, ::-1]
    planes = np.zeros((3, *placement.network), np.float32)
    (height, width), top, left = placement.content, placement.top, placement.left
    values = tall.transpose(2, 0, 1).astype(np.float32) * scale[:, None, None]
    planes[:, top : top + height, left : left + width] = values + shift[:, None, None]
    return planes


def _resample(
    pixels: npt.NDArray[np.uint8], bounds: npt.NDArray[np.int32], taps: npt.NDArray[np.int32]
) -> npt.NDArray[np.uint8]:
    """One pass along axis 1 in fixed point, rounded to 8 bits."""
    total = np.full((pixels.shape[0], len(bounds), 3), 1 << (PRECISION - 1), np.int32)
    for tap in range(taps.shape[1]):
        used = (tap < bounds[:, 1]).astype(np.int32)
        column = np.minimum(bounds[:, 0] + tap, pixels.shape[1] - 1)
        total += pixels[:, column].astype(np.int32) * (taps[:, tap] * used)[None, :, None]
    clipped: npt.NDArray[np.uint8] = np.clip(total >> PRECISION, 0, 255).astype(np.uint8)
    return clipped


def vote(
    logits: npt.NDArray[Any], shots: Sequence[int], tables: Tables
) -> tuple[npt.NDArray[np.uint16], Floats, npt.NDArray[np.int32]]:
    """`hsnet_vote`: upsample each shot's logit difference, count votes, average the softmax.

    Args:
        logits: float16 or float32 [S,2,h,w], class after class.
        shots: how many shots each class has.
        tables: of the query's placement.

    Returns:
        Votes uint16 and scores float32, [classes,H,W]; and int32 [classes + 1]: the largest vote
        of each class, and 1 if something was not finite.
    """
    whole = logits.astype(np.float32)
    with np.errstate(invalid="ignore"):
        difference = whole[:, 1] - whole[:, 0]
    x, y = tables.low_x, tables.low_y
    ax, ay = tables.along_x[None], tables.along_y[:, None]
    size = (len(shots), len(y), len(x))
    votes, scores = np.zeros(size, np.uint16), np.zeros(size, np.float32)
    largest = np.zeros(len(shots) + 1, np.int32)
    first = 0
    with np.errstate(invalid="ignore", over="ignore"):
        for index, count in enumerate(shots):
            for plane in difference[first : first + count]:
                wide = plane[:, x] + ax * (plane[:, x + 1] - plane[:, x])
                value = (wide[y + 1] - wide[y]) * ay + wide[y]
                if not np.isfinite(value).all():
                    largest[-1] = 1
                votes[index] += value > 0
                scores[index] += 1 / (1 + np.exp(-np.clip(value, -80, 80)))
            scores[index] /= np.float32(count)
            largest[index] = votes[index].max()
            first += count
    return votes, scores, largest


def settle(
    votes: npt.NDArray[np.uint16], scores: Floats | None, largest: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """`hsnet_settle`: masks uint8 [classes,H,W] of 0 and 1, and labels uint8 [H,W]."""
    least = (np.maximum(largest[: len(votes)], 1) + 1) // 2
    masks = votes >= least[:, None, None]
    labels = np.zeros(votes.shape[1:], np.uint8)
    best = np.zeros(votes.shape[1:], np.float32)
    for index, mask in enumerate(masks):
        score = np.zeros_like(best) if scores is None else scores[index]
        wins = mask & ((labels == 0) | (score > best))
        labels[wins] = index + 1
        best[wins] = score[wins]
    return masks.astype(np.uint8), labels
