"""Shared by the lowerings of `match`: its inputs, its normalisations, its decoder.

A lowering is a module that computes `HSNet.match` in another order of operations. It takes raw
query features and encoded supports and handles every pair of B queries and S supports. Sums of
squares and norms are computed in float32 for features of any type, because they overflow in
float16. The letters of the dimensions are explained in `export.graphs`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor, nn

from hsnet_trt.model.center_pivot import CenterPivotConv4d
from hsnet_trt.model.correlation import EPSILON
from hsnet_trt.model.learner import GROUPS, HPNLearner, upsample
from hsnet_trt.trt_plugins.sizes import row_length

Grid = tuple[int, int]
Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]  # a graph on named arrays
PYRAMID = (2, 3, 4)  # the levels, from the finest to the coarsest


def normalized(features: Tensor) -> Tensor:
    """Divide [...,C,n] by the L2 norm over C plus `EPSILON`, in ops that every parser takes."""
    x = features.float()
    norm = (x * x).sum(dim=-2, keepdim=True).sqrt()
    return (x / (norm + EPSILON)).to(features.dtype)


def interpolation(extent: int, positions: int, shift: float = 0.0) -> np.ndarray:
    """Bilinear resizing with aligned corners along one axis, as a float64 matrix.

    Args:
        extent: pixels of the input.
        positions: pixels of the output.
        shift: pixels by which every position is moved.

    Returns:
        [positions, extent], rows summing to 1. Where a position falls on a pixel the row is exactly
        that pixel, which coordinates computed in float32 miss.
    """
    steps = np.arange(positions) * (extent - 1)
    low, rest = np.divmod(steps, max(positions - 1, 1))
    at = np.clip(low + rest / max(positions - 1, 1) + shift, 0, extent - 1)
    low = np.floor(at).astype(np.int64)
    matrix = np.zeros((positions, extent))
    rows = np.arange(positions)
    matrix[rows, np.minimum(low + 1, extent - 1)] = at - low
    matrix[rows, low] += 1 - (at - low)
    return matrix


def padded(x: Tensor) -> Tensor:
    """[...,positions] -> [...,row], with zeros behind the positions."""
    missing = row_length(x.shape[-1]) - x.shape[-1]
    return nn.functional.pad(x, (0, missing)) if missing else x


def keep(support: Tensor, grid: Grid, stride: int) -> Tensor:
    """Keep every `stride`-th row and column: [...,M] on the grid, or its row -> [...,M']."""
    whole = support[..., : grid[0] * grid[1]].unflatten(-1, grid)
    return whole[..., ::stride, ::stride].flatten(-2)


def cut(product: Tensor, rows: int, columns: int) -> Tensor:
    """The product of padded rows, without the padding: [...,rows,columns]."""
    return product[..., :rows, :columns]


def strided(grid: Grid, stride: int) -> Grid:
    """The extent of a grid after keeping every `stride`-th position."""
    height, width = grid
    return (height + stride - 1) // stride, (width + stride - 1) // stride


class GroupNormRelu(nn.Module):
    """Group normalisation and ReLU of a 4D tensor whose channels are dimension `channel`.

    Statistics are taken over everything but the batch (dimension 0) and the group.
    """

    def __init__(self, norm: nn.GroupNorm, channel: int) -> None:
        super().__init__()
        self.channel, self.eps = channel, norm.eps
        self.shape = (GROUPS, norm.num_channels // GROUPS)
        # The mean is taken step by step, the innermost dimension first: in ONNX Runtime, one
        # float32 sum over a million elements loses three digits.
        self.steps = [[4], list(range(channel + 1, 4)), list(range(1, channel))]
        shape = [1] * 5  # with the channels as groups and channels of a group
        shape[channel : channel + 2] = self.shape
        self.weight = nn.Parameter(norm.weight.detach().reshape(shape).clone())
        self.bias = nn.Parameter(norm.bias.detach().reshape(shape).clone())

    def forward(self, x: Tensor) -> Tensor:
        """[P,...,C,...], with C at dimension `channel` -> the same shape."""
        y = x.unflatten(self.channel, self.shape).float()
        y = y - self._mean(y)
        variance = self._mean(y * y)
        scale = self.weight.float() * (variance + self.eps).rsqrt()
        y = (y * scale + self.bias.float()).relu()
        return y.to(x.dtype).flatten(self.channel, self.channel + 1)

    def _mean(self, y: Tensor) -> Tensor:
        for axes in self.steps:
            if axes:
                y = y.mean(dim=axes, keepdim=True)
        return y


class Decoder(nn.Module):
    """The 2D decoder: [P,128,h2,w2] -> logits [P,2,2*h2,2*w2]."""

    def __init__(self, learner: HPNLearner, grid: Grid) -> None:
        super().__init__()
        self.decoder1 = learner.decoder1
        self.decoder2 = learner.decoder2
        self.size = (2 * grid[0], 2 * grid[1])

    def forward(self, x: Tensor) -> Tensor:
        """[P,128,h2,w2] -> [P,2,2*h2,2*w2]."""
        logits: Tensor = self.decoder2(upsample(self.decoder1(x), self.size))
        return logits


def layers_of(block: nn.Module) -> list[tuple[CenterPivotConv4d, nn.GroupNorm]]:
    """The (center-pivot convolution, group norm) pairs of a squeeze or mixing block."""
    modules = list(block.children())
    pairs = zip(modules[0::3], modules[1::3], strict=True)
    return [
        (conv, norm)
        for conv, norm in pairs
        if isinstance(conv, CenterPivotConv4d) and isinstance(norm, nn.GroupNorm)
    ]
