"""`conv2d`: the center-pivot 4D convolution as 2D convolutions, in layouts that need few permutes.

Each of the two convolutions takes the other one's positions as its batch, so two layouts are
used (letters: see `export.graphs`):

- query-major [P,Q,C,M] in the squeeze blocks, where the support side is large: the support
  convolution needs no permute, and only the pruned (small) side is permuted;
- support-major [P,M,C,Q] in the mixing blocks, where the support side is 2 x 2 or so: the query
  convolution needs no permute, and the support convolution, which then mixes every position with
  every other, is one 1 x 1 convolution over all M*C channels.
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

# Above this many support positions, the 3 x 3 convolution multiplies less than the full mix.
DENSE_LIMIT = 9


class MatchConv2d(nn.Module):
    """`HSNet.match` for one size, with 2D convolutions."""

    def __init__(self, model: HSNet, size: Grid) -> None:
        super().__init__()
        learner, grids = copy.deepcopy(model.hpn_learner), model.grids(size)
        blocks = (learner.encoder_layer2, learner.encoder_layer3, learner.encoder_layer4)
        self.squeeze2, self.squeeze3, self.squeeze4 = (
            Squeeze(block, grid) for block, grid in zip(blocks, grids, strict=True)
        )
        self.mix3 = _Mix(learner.encoder_layer4to3, grids[1], self.squeeze3.out, self.squeeze4.out)
        self.mix2 = _Mix(learner.encoder_layer3to2, grids[0], self.squeeze2.out, self.mix3.out)
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
        squeezed = self.squeeze2(f2, s2), self.squeeze3(f3, s3), self.squeeze4(f4, s4)
        return self.mixed(*squeezed).unflatten(0, (f2.shape[0], s2.shape[0]))

    def mixed(self, squeezed2: Tensor, squeezed3: Tensor, squeezed4: Tensor) -> Tensor:
        """Squeezed levels [P,M,C,Q] -> logits of the pairs [P,2,2*h2,2*w2]."""
        mixed = self.mix3(squeezed3, squeezed4, self.grids[2])
        mixed = self.mix2(squeezed2, mixed, self.grids[1])
        logits: Tensor = self.decoder(mixed.mean(dim=1).unflatten(-1, self.grids[0]))
        return logits


class Squeeze(nn.Module):
    """Correlation and squeeze block of one level -> support-major [P,M,C,Q]."""

    def __init__(self, block: nn.Module, grid: Grid) -> None:
        super().__init__()
        support, convs, norms = grid, [], []
        for conv, norm in layers_of(block):
            convs.append(_CenterPivot(conv, grid, support))
            norms.append(norm)
            support = convs[-1].out
        self.first, self.second, self.third = convs
        self.norm1, self.norm2 = (GroupNormRelu(norm, channel=2) for norm in norms[:2])
        self.norm3 = GroupNormRelu(norms[2], channel=2)
        self.grid, self.out = grid, support

    def forward(self, query: Tensor, support: Tensor) -> Tensor:
        """Raw `query` and encoded `support`, in rows [B,L,C,row], [S,L,C,row] -> [P,M',C,Q]."""
        query = normalized(query).unsqueeze(1)  # [B,1,L,C,row]
        kept = padded(keep(support, self.grid, self.first.stride))
        positions = self.grid[0] * self.grid[1]
        # A second, small product, instead of pruning the large one. The padding is cut in copies
        # that the two layouts need anyway.
        full = torch.matmul(query.transpose(-1, -2), support).relu()
        full = cut(full, positions, positions)  # [B,S,L,Q,M]
        pruned = torch.matmul(kept.transpose(-1, -2), query).relu()
        height, width = self.first.out
        pruned = cut(pruned, height * width, positions)  # [B,S,L,M',Q]
        full, pruned = (x.flatten(0, 1).transpose(1, 2).flatten(0, 1) for x in (full, pruned))
        return self.squeeze(full.unflatten(-1, self.grid), pruned.unflatten(-1, self.grid))

    def squeeze(self, full: Tensor, pruned: Tensor) -> Tensor:
        """The block alone, from the correlation [P*Q,L,hs,ws] and the pruned one [P*M',L,hq,wq]."""
        first = self.first
        over_query = first.query_plane(first.conv1(pruned)).transpose(1, 3)
        x = first.support_plane(first.conv2(full)) + over_query
        x = self.norm1(x)
        pruned = self.second.pruned(x)
        x = self.second.over_support(x) + self.second.over_query(pruned).transpose(1, 3)
        x = self.norm2(x)
        pruned = self.third.pruned(x)
        x = self.third.over_support(x).transpose(1, 3) + self.third.over_query(pruned)
        y: Tensor = self.norm3(x)
        return y


class _CenterPivot(nn.Module):
    """The two halves of a center-pivot convolution, each in the layout that suits it."""

    def __init__(self, conv: CenterPivotConv4d, query: Grid, support: Grid) -> None:
        super().__init__()
        self.conv1, self.conv2, self.stride = conv.conv1, conv.conv2, conv.stride
        self.query, self.support, self.out = query, support, strided(support, conv.stride)

    def pruned(self, x: Tensor) -> Tensor:
        """Query-major [P,Q,C,M] -> support-major [P,M',C,Q], keeping every `stride`-th position."""
        kept = x.unflatten(-1, self.support)[..., :: self.stride, :: self.stride]
        return kept.flatten(-2).transpose(1, 3)

    def over_support(self, x: Tensor) -> Tensor:
        """Query-major [P,Q,C,M] -> query-major [P,Q,O,M']."""
        return self.support_plane(self.conv2(x.flatten(0, 1).unflatten(-1, self.support)))

    def over_query(self, pruned: Tensor) -> Tensor:
        """Support-major [P,M',C,Q] -> support-major [P,M',O,Q]."""
        return self.query_plane(self.conv1(pruned.flatten(0, 1).unflatten(-1, self.query)))

    def support_plane(self, y: Tensor) -> Tensor:
        """Output of the support convolution [P*Q,O,hs',ws'] -> query-major [P,Q,O,M']."""
        return y.flatten(2).unflatten(0, (-1, self.query[0] * self.query[1]))

    def query_plane(self, y: Tensor) -> Tensor:
        """Output of the query convolution [P*M',O,hq,wq] -> support-major [P,M',O,Q]."""
        return y.flatten(2).unflatten(0, (-1, self.out[0] * self.out[1]))


class _Mix(nn.Module):
    """Add the coarser level and mix, on support-major [P,M,C,Q]."""

    def __init__(self, block: nn.Module, query: Grid, fine: Grid, coarse: Grid) -> None:
        super().__init__()
        self.query, self.fine, self.coarse = query, fine, coarse
        self.out = (max(fine[0], coarse[0]), max(fine[1], coarse[1]))
        mix = _Dense if self.out[0] * self.out[1] <= DENSE_LIMIT else _Sparse
        self.convs = nn.ModuleList(mix(conv, query, self.out) for conv, _ in layers_of(block))
        self.norms = nn.ModuleList(GroupNormRelu(norm, channel=2) for _, norm in layers_of(block))

    def forward(self, fine: Tensor, coarse: Tensor, query: Grid) -> Tensor:
        """Mix two levels.

        Args:
            fine: [P,M,C,Q] of the finer level.
            coarse: [P,M,C,Q] of the coarser level, with its own Q, and M where rounding left
                another support grid.
            query: the query grid (hq, wq) of `coarse`.

        Returns:
            [P,M,O,Q] on the finer level's query grid and the larger support grid.
        """
        positions = coarse.shape[1]
        coarse = upsample(coarse.flatten(0, 1).unflatten(-1, query), self.query)
        coarse = coarse.flatten(2).unflatten(0, (-1, positions))
        x = self._fit(fine, self.fine) + self._fit(coarse, self.coarse)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x))
        return x

    def _fit(self, x: Tensor, support: Grid) -> Tensor:
        """Resize the support grid if rounding made the two levels' grids differ."""
        if support == self.out:
            return x
        rows = upsample(x.flatten(2).transpose(1, 2).unflatten(-1, support), self.out)
        return rows.flatten(2).transpose(1, 2).unflatten(-1, x.shape[2:])


class _Dense(nn.Module):
    """A center-pivot convolution whose support half is one 1 x 1 convolution over M*C channels."""

    def __init__(self, conv: CenterPivotConv4d, query: Grid, support: Grid) -> None:
        super().__init__()
        self.conv1, self.query, self.support = conv.conv1, query, support
        positions = support[0] * support[1]
        weight = full_mix(conv.conv2.weight.detach(), support)
        self.mix = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
        self.mix.weight = nn.Parameter(weight[:, :, None, None].clone())
        bias = conv.conv2.bias
        assert bias is not None
        self.mix.bias = nn.Parameter(bias.detach().repeat(positions))
        self.positions = positions

    def forward(self, x: Tensor) -> Tensor:
        """Support-major [P,M,C,Q] -> [P,M,O,Q]."""
        x = x.unflatten(-1, self.query)  # [P,M,C,hq,wq]
        over_query = self.conv1(x.flatten(0, 1)).unflatten(0, (-1, self.positions))
        over_support = self.mix(x.flatten(1, 2)).unflatten(1, (self.positions, -1))
        return (over_query + over_support).flatten(-2)


class _Sparse(nn.Module):
    """The same with the support half as a 3 x 3 convolution: for large supports."""

    def __init__(self, conv: CenterPivotConv4d, query: Grid, support: Grid) -> None:
        super().__init__()
        self.conv = _CenterPivot(conv, query, support)

    def forward(self, x: Tensor) -> Tensor:
        """Support-major [P,M,C,Q] -> [P,M,O,Q]."""
        over_support = self.conv.over_support(x.transpose(1, 3)).transpose(1, 3)
        return self.conv.over_query(x) + over_support


def full_mix(weight: Tensor, support: Grid) -> Tensor:
    """A convolution's weight [O,C,k,k] as the matrix [M*O,M*C] that it is on a small grid."""
    out_channels, in_channels, kernel, _ = weight.shape
    height, width = support
    matrix = weight.new_zeros(height, width, out_channels, height, width, in_channels)
    reach = kernel // 2
    for y in range(height):
        for x in range(width):
            for v in range(max(0, y - reach), min(height, y + reach + 1)):
                for u in range(max(0, x - reach), min(width, x + reach + 1)):
                    matrix[y, x, :, v, u] = weight[:, :, v - y + reach, u - x + reach]
    return matrix.reshape(height * width * out_channels, height * width * in_channels)
