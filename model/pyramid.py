"""Shared by backbones whose strides round up: the levels' grids, and layers padded to one width."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def grid_rounded_up(size: int) -> tuple[int, int, int]:
    """The extent of levels 2, 3, 4 for an input of `size` pixels: halved, rounded up."""
    return -(-size // 8), -(-size // 16), -(-size // 32)


def levels_of_one_width(
    outputs: Sequence[Tensor], taps: Sequence[Sequence[int]], widths: Sequence[int]
) -> list[list[Tensor]]:
    """The tapped outputs [N,C,h,w] by level, with narrower ones padded with zero channels.

    Args:
        outputs: outputs of the backbone's blocks.
        taps: indices of the blocks of each level.
        widths: channels of each level after padding. Zeros leave the cosine unchanged.
    """
    return [
        [F.pad(outputs[i], (0, 0, 0, 0, 0, width - outputs[i].shape[1])) for i in level]
        for level, width in zip(taps, widths, strict=True)
    ]
