"""`conv3d`: the center-pivot 4D convolution as two 3D convolutions, with nothing permuted.

Everything stays in the model's own order [P,C,Q,M] (letters: see `export.graphs`): a kernel of
(k, k, 1) over [P,C,hq,wq,M] convolves the query positions, a kernel of (1, k, k) over
[P,C,Q,hs,ws] the support positions.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from hsnet_trt.export.graphs.lowering import (
    Decoder,
    Grid,
    GroupNormRelu,
    cut,
    keep,
    layers_of,
    normalized,
    padded,
    strided,
)
from hsnet_trt.model.center_pivot import CenterPivotConv4d
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.learner import upsample


class MatchConv3d(nn.Module):
    """`HSNet.match` for one size, with 3D convolutions."""

    def __init__(self, model: HSNet, size: Grid) -> None:
        super().__init__()
        learner, grids = copy.deepcopy(model.hpn_learner), model.grids(size)
        blocks = (learner.encoder_layer2, learner.encoder_layer3, learner.encoder_layer4)
        self.squeeze2, self.squeeze3, self.squeeze4 = (
            _Block(block, grid, grid) for block, grid in zip(blocks, grids, strict=True)
        )
        self.add3 = _Add(grids[1], grids[2], self.squeeze3.out, self.squeeze4.out)
        self.mix3 = _Block(learner.encoder_layer4to3, grids[1], self.add3.out)
        self.add2 = _Add(grids[0], grids[1], self.squeeze2.out, self.mix3.out)
        self.mix2 = _Block(learner.encoder_layer3to2, grids[0], self.add2.out)
        self.grids = grids
        self.decoder = Decoder(learner, grids[0])

    def forward(
        self, f2: Tensor, f3: Tensor, f4: Tensor, s2: Tensor, s3: Tensor, s4: Tensor
    ) -> Tensor:
        """Match every query with every support.

        Args:
            f2, f3, f4: raw features of the queries, [B,L,C,row] each.
            s2, s3, s4: encoded supports, [S,L,C,row] each.

        Returns:
            logits [B,S,2,2*h2,2*w2].
        """
        queries, supports = f2.shape[0], s2.shape[0]
        squeezed2, squeezed3, squeezed4 = (
            self._squeeze(block, grid, query, support)
            for block, grid, query, support in (
                (self.squeeze2, self.grids[0], f2, s2),
                (self.squeeze3, self.grids[1], f3, s3),
                (self.squeeze4, self.grids[2], f4, s4),
            )
        )
        mixed = self.mix3(self.add3(squeezed3, squeezed4))
        mixed = self.mix2(self.add2(squeezed2, mixed))
        logits: Tensor = self.decoder(mixed.mean(dim=-1).unflatten(-1, self.grids[0]))
        return logits.unflatten(0, (queries, supports))

    @staticmethod
    def _squeeze(block: _Block, grid: Grid, query: Tensor, support: Tensor) -> Tensor:
        """Raw `query` and encoded `support`, in rows [B,L,C,row], [S,L,C,row] -> [P,C,Q,M']."""
        query = normalized(query).transpose(-1, -2).unsqueeze(1)  # [B,1,L,row,C]
        positions, kept_grid = grid[0] * grid[1], strided(grid, block.stride)
        full = torch.matmul(query, support).relu()
        full = cut(full, positions, positions).flatten(0, 1)  # [P,L,Q,M]
        kept = torch.matmul(query, padded(keep(support, grid, block.stride))).relu()
        kept = cut(kept, positions, kept_grid[0] * kept_grid[1]).flatten(0, 1)  # [P,L,Q,M']
        y: Tensor = block(full, kept)
        return y


class _Block(nn.Module):
    """A squeeze or mixing block on [P,C,Q,M]."""

    def __init__(self, block: nn.Module, query: Grid, support: Grid) -> None:
        super().__init__()
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        self.stride = layers_of(block)[0][0].stride
        for conv, norm in layers_of(block):
            pivot = _CenterPivot(conv, query, support)
            self.convs.append(pivot)
            self.norms.append(GroupNormRelu(norm, channel=1))
            support = pivot.out
        self.out = support

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """[P,C,Q,M] -> [P,O,Q,M']; `kept`: see `_CenterPivot.forward`, of the first layer."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x, kept))
            kept = None
        return x


class _CenterPivot(nn.Module):
    """A center-pivot convolution [P,C,Q,M] -> [P,O,Q,M'] as two 3D convolutions."""

    def __init__(self, conv: CenterPivotConv4d, query: Grid, support: Grid) -> None:
        super().__init__()
        self.stride, self.query, self.support = conv.stride, query, support
        self.out = strided(support, conv.stride)
        self.over_query = _conv3d(conv.conv1, dim=4)
        self.over_support = _conv3d(conv.conv2, dim=2)

    def forward(self, x: Tensor, kept: Tensor | None) -> Tensor:
        """[P,C,Q,M] -> [P,O,Q,M']; `kept`: the pruned input [P,C,Q,M'], if already computed."""
        if kept is None:
            kept = keep(x, self.support, self.stride)
        over_query = self.over_query(kept.unflatten(2, self.query)).flatten(2, 3)
        over_support = self.over_support(x.unflatten(3, self.support)).flatten(3)
        return over_query + over_support


class _Add(nn.Module):
    """Two levels, the coarser resized to the finer, summed: [P,C,Q,M]."""

    def __init__(self, fine: Grid, coarse: Grid, fine_support: Grid, coarse_support: Grid) -> None:
        super().__init__()
        self.fine, self.coarse = (fine, fine_support), (coarse, coarse_support)
        self.out = (
            max(fine_support[0], coarse_support[0]),
            max(fine_support[1], coarse_support[1]),
        )

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Two [P,C,Q,M], each with its own Q and M -> their sum, with the larger of each."""
        return self._fit(fine, *self.fine) + self._fit(coarse, *self.coarse)

    def _fit(self, x: Tensor, query: Grid, support: Grid) -> Tensor:
        channels = x.shape[1]
        if query != self.fine[0]:
            positions = support[0] * support[1]
            y = x.transpose(2, 3).flatten(1, 2).unflatten(-1, query)
            y = upsample(y, self.fine[0]).flatten(2)
            x = y.unflatten(1, (channels, positions)).transpose(2, 3)
        if support != self.out:
            y = upsample(x.flatten(1, 2).unflatten(-1, support), self.out)
            x = y.flatten(2).unflatten(1, (channels, -1))
        return x


def _conv3d(conv: nn.Conv2d, dim: int) -> nn.Conv3d:
    """A 2D convolution as a 3D one whose kernel has extent 1 at tensor dimension `dim`."""
    at = dim - 2
    kernel, stride, padding = list(conv.kernel_size), list(conv.stride), list(conv.padding)
    for values, value in ((kernel, 1), (stride, 1), (padding, 0)):
        values.insert(at, value)  # type: ignore[arg-type]
    result = nn.Conv3d(conv.in_channels, conv.out_channels, kernel, stride, padding)  # type: ignore[arg-type]
    result.weight = nn.Parameter(conv.weight.detach().unsqueeze(dim))
    assert conv.bias is not None
    result.bias = nn.Parameter(conv.bias.detach())
    return result
