"""Lookup tables of the frame kernels for one frame size: resize weights and upsampling positions.

The resize is Pillow's antialiased bilinear in fixed point (its `Resample.c`: a triangle filter,
widened by the scale when it shrinks, weights rounded to 22 bits). Computed once per frame size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hsnet_trt.runtime.pictures.postprocess import sample_positions
from hsnet_trt.runtime.pictures.preprocess import Floats, Placement

PRECISION = 22  # bits of a weight: Pillow's 32 - 8 - 2

Integers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Tables:
    """Lookup tables of one placement and decoder size.

    Attributes:
        columns: int32 [content width, 2], first source column of each and number of columns.
        column_taps: int32 [content width, taps], weights of those columns, in units of 2**-22.
        rows: int32 [content height, 2].
        row_taps: int32 [content height, taps].
        low_x: int32 [width], the lower decoder column of each of the photograph's columns.
        along_x: float32 [width], the weight of the upper one.
        low_y: int32 [height].
        along_y: float32 [height].
    """

    columns: Integers
    column_taps: Integers
    rows: Integers
    row_taps: Integers
    low_x: Integers
    along_x: Floats
    low_y: Integers
    along_y: Floats


def make_tables(placement: Placement, decoder: tuple[int, int]) -> Tables:
    """Compute the tables.

    Args:
        placement: where the photograph lies in the network's input.
        decoder: height and width of the logits.
    """
    columns, column_taps = resize_taps(placement.source[1], placement.content[1])
    rows, row_taps = resize_taps(placement.source[0], placement.content[0])
    low_x, along_x = sample_positions(decoder[1], placement, axis=1)
    low_y, along_y = sample_positions(decoder[0], placement, axis=0)
    return Tables(
        columns,
        column_taps,
        rows,
        row_taps,
        low_x.astype(np.int32),
        along_x,
        low_y.astype(np.int32),
        along_y,
    )


def resize_taps(source: int, target: int) -> tuple[Integers, Integers]:
    """Which source pixels make each target pixel, and their weights.

    Returns:
        int32 [target, 2], first source pixel and number of pixels; int32 [target, taps], their
        weights in units of 2**-22, zero beyond that number.
    """
    scale = source / target
    widened = max(scale, 1.0)
    centre = (np.arange(target, dtype=np.float64) + 0.5) * scale
    # Truncated towards zero, as C does.
    first = np.maximum(np.trunc(centre - widened + 0.5), 0).astype(np.int64)
    last = np.minimum(np.trunc(centre + widened + 0.5), source).astype(np.int64)
    taps = math.ceil(widened) * 2 + 1
    tap = np.arange(taps)
    distance = (tap[None] + first[:, None] - centre[:, None] + 0.5) * (1.0 / widened)
    weight = np.maximum(1.0 - np.abs(distance), 0.0)
    weight[tap[None] >= (last - first)[:, None]] = 0.0
    total = np.zeros(target)
    for column in weight.T:  # in Pillow's order of summing
        total += column
    weight = np.divide(weight, total[:, None], out=weight, where=total[:, None] != 0)
    fixed = np.trunc(weight * (1 << PRECISION) + 0.5).astype(np.int32)
    return np.stack([first, last - first], axis=1).astype(np.int32), fixed
