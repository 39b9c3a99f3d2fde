"""Changes to a lowering that may be faster on a card: tried in PyTorch before any is exported.

What each computes is what the lowering computes, but for the order of sums. None is part of the
product: one that wins by `WORTH` on a card is worth a lowering, or a pass over the graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsnet_trt.export.graphs.lowering import Grid, GroupNormRelu, keep
from hsnet_trt.export.graphs.lowering_conv3d import MatchConv3d
from hsnet_trt.model.learner import GROUPS

UNIT = 8  # channels, of which tensor cores take whole multiples
WORTH = 1.1  # times faster
LEVELS = ("squeeze2", "squeeze3", "squeeze4")


def widen(match: nn.Module) -> None:
    """Fill up the channels of every convolution to `UNIT`: those of the first layers are few."""
    for parent in list(match.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, nn.Conv2d | nn.Conv3d) and conv.in_channels % UNIT:
                setattr(parent, name, _Widened(conv))


def fuse_norms(match: nn.Module) -> None:
    """Group norms by PyTorch's one operation, instead of the steps that every parser takes."""
    for parent in list(match.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, GroupNormRelu):
                setattr(parent, name, _FusedNorm(norm))


def channels_last(module: nn.Module) -> None:
    """The weights of every convolution; what convolutions give is laid out alike, and stays so."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            child.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        elif isinstance(child, nn.Conv3d):
            child.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


# By the words of a form, in the order in which they are made.
CHANGES: dict[str, Callable[[nn.Module], None]] = {
    "8 channels": widen,
    "fused norms": fuse_norms,
    "channels-last throughout": channels_last,
}


class _Widened(nn.Module):
    """A convolution of more channels, the last of which are zero."""

    def __init__(self, conv: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.missing = -conv.in_channels % UNIT
        self.conv = type(conv)(
            conv.in_channels + self.missing,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
        )
        self.conv.weight = nn.Parameter(self._filled(conv.weight.detach()))
        self.conv.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,...] -> [N,O,...]."""
        y: Tensor = self.conv(self._filled(x))
        return y

    def _filled(self, x: Tensor) -> Tensor:
        return F.pad(x, [0] * (2 * (x.dim() - 2)) + [0, self.missing])


class _FusedNorm(nn.Module):
    """Group normalisation and ReLU of [P,...,C,...], C at dimension `channel`; sums in float32."""

    def __init__(self, norm: GroupNormRelu) -> None:
        super().__init__()
        self.channel, self.eps = norm.channel, norm.eps
        self.weight = nn.Parameter(norm.weight.detach().flatten())
        self.bias = nn.Parameter(norm.bias.detach().flatten())

    def forward(self, x: Tensor) -> Tensor:
        """The shape stays."""
        y = x.movedim(self.channel, 1)
        y = F.group_norm(y, GROUPS, self.weight, self.bias, self.eps).relu_()
        return y.movedim(1, self.channel)


def equal_layers(match: MatchConv3d) -> list[list[str]]:
    """The names of layers of several levels that differ in weights and query grids alone.

    The second and the third of the squeeze blocks, where kernels, strides and support grids agree;
    the mixing blocks are equal, too, but one takes the result of the other.
    """
    found = []
    for index in (1, 2):
        alike: dict[object, list[str]] = {}
        for level in LEVELS:
            layer: Any = match.get_submodule(f"{level}.convs.{index}")
            form = (layer.over_support.weight.shape, layer.stride, layer.support)
            alike.setdefault(form, []).append(f"{level}.convs.{index}")
        found += [names for names in alike.values() if len(names) > 1]
    return found


class Apart(nn.Module):
    """Center-pivot layers of `conv3d`, one after another, as a lowering has them."""

    def __init__(self, match: MatchConv3d, names: Sequence[str]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(match.get_submodule(name) for name in names)

    def forward(self, *given: Tensor) -> list[Tensor]:
        """[P,C,Q,M] of each level -> [P,O,Q,M'] of each."""
        return [layer(x, None) for layer, x in zip(self.layers, given, strict=True)]


class Together(nn.Module):
    """The same as one grouped convolution each way, on query grids filled up to the largest.

    Behind the end of a grid are zeros, as behind its padding; what is computed there is cut off.
    """

    def __init__(self, match: MatchConv3d, names: Sequence[str]) -> None:
        super().__init__()
        layers: list[Any] = [match.get_submodule(name) for name in names]
        self.grids: list[Grid] = [layer.query for layer in layers]
        self.whole = (max(h for h, _ in self.grids), max(w for _, w in self.grids))
        self.support: Grid = layers[0].support
        self.stride: int = layers[0].stride
        self.over_query = _grouped([layer.over_query for layer in layers])
        self.over_support = _grouped([layer.over_support for layer in layers])

    def forward(self, *given: Tensor) -> list[Tensor]:
        """[P,C,Q,M] of each level -> [P,O,Q,M'] of each."""
        filled = [self._fill(x, grid) for x, grid in zip(given, self.grids, strict=True)]
        x = torch.cat(filled, dim=1)  # [P,levels*C,hq,wq,M]
        over_query = self.over_query(keep(x, self.support, self.stride))
        over_support = self.over_support(x.flatten(2, 3).unflatten(3, self.support))
        y = over_query + over_support.flatten(3).unflatten(2, self.whole)
        parts = y.chunk(len(given), dim=1)
        return [
            part[:, :, :h, :w].flatten(2, 3) for part, (h, w) in zip(parts, self.grids, strict=True)
        ]

    def _fill(self, x: Tensor, grid: Grid) -> Tensor:
        missing = [whole - extent for whole, extent in zip(self.whole, grid, strict=True)]
        return F.pad(x.unflatten(2, grid), [0, 0, 0, missing[1], 0, missing[0]])


def _grouped(convs: Sequence[nn.Conv3d]) -> nn.Conv3d:
    first = convs[0]
    result = nn.Conv3d(
        first.in_channels * len(convs),
        first.out_channels * len(convs),
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        groups=len(convs),
    )
    result.weight = nn.Parameter(torch.cat([conv.weight.detach() for conv in convs]))
    biases = [conv.bias.detach() for conv in convs if conv.bias is not None]
    result.bias = nn.Parameter(torch.cat(biases))
    return result
