"""What backbones that halve and round up share: the grids of their levels, layers of one width."""

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
    """The tapped outputs [N,C,h,w] by level, narrower ones filled up with zero channels.

    Args:
        outputs: of a backbone's blocks.
        taps: of each level, the numbers of its blocks.
        widths: of each level, the channels that its layers get. A cosine does not see the zeros.
    """
    return [
        [F.pad(outputs[i], (0, 0, 0, 0, 0, width - outputs[i].shape[1])) for i in level]
        for level, width in zip(taps, widths, strict=True)
    ]
