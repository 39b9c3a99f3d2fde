"""Changes to a lowering that may be faster on a card, tried in PyTorch before any is exported.

Each computes the same as the lowering, apart from the order of sums. None is part of the product:
a change that is `WORTH` times faster on a card is worth a lowering, or a pass over the graphs.
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

UNIT = 8  # tensor cores take multiples of this many channels
WORTH = 1.1  # times faster
LEVELS = ("squeeze2", "squeeze3", "squeeze4")


def widen(match: nn.Module) -> None:
    """Pad every convolution's channels to a multiple of `UNIT`: the first layers have few."""
    for parent in list(match.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, nn.Conv2d | nn.Conv3d) and conv.in_channels % UNIT:
                setattr(parent, name, _Widened(conv))


def fuse_norms(match: nn.Module) -> None:
    """Replace the steps of group norms, which every parser takes, by PyTorch's single operation."""
    for parent in list(match.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, GroupNormRelu):
                setattr(parent, name, _FusedNorm(norm))


def channels_last(module: nn.Module) -> None:
    """Make every convolution's weights channels-last; its outputs then have this layout, too."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            child.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        elif isinstance(child, nn.Conv3d):
            child.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


# Words in a form's name -> change, in the order of application.
CHANGES: dict[str, Callable[[nn.Module], None]] = {
    "8 channels": widen,
    "fused norms": fuse_norms,
    "channels-last throughout": channels_last,
}


class _Widened(nn.Module):
    """A convolution with additional input channels, which are zero."""

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
        """[P,...,C,...] -> the same shape."""
        y = x.movedim(self.channel, 1)
        y = F.group_norm(y, GROUPS, self.weight, self.bias, self.eps).relu_()
        return y.movedim(1, self.channel)


def equal_layers(match: MatchConv3d) -> list[list[str]]:
    """Groups of layers, by name, of several levels that differ only in weights and query grids.

    These are second and third layers of squeeze blocks with equal kernels, strides and support
    grids. The mixing blocks are equal, too, but one needs the result of the other.
    """
    found = []
    for index in (1, 2):
        alike: dict[object, list[str]] = {}
        for level in LEVELS:
            layer: Any = match.get_submodule(f"{level}.convs.{index}")  # a center-pivot layer
            form = (layer.over_support.weight.shape, layer.stride, layer.support)
            alike.setdefault(form, []).append(f"{level}.convs.{index}")
        found += [names for names in alike.values() if len(names) > 1]
    return found


class Apart(nn.Module):
    """Center-pivot layers of `conv3d`, computed one after another as in the lowering."""

    def __init__(self, match: MatchConv3d, names: Sequence[str]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(match.get_submodule(name) for name in names)

    def forward(self, *given: Tensor) -> list[Tensor]:
        """[P,C,Q,M] of each level -> [P,O,Q,M'] of each."""
        return [layer(x, None) for layer, x in zip(self.layers, given, strict=True)]


class Together(nn.Module):
    """The same layers as one grouped convolution each way, on query grids padded to the largest.

    The padding is zero, like a convolution's own; the results in it are cut off.
    """

    def __init__(self, match: MatchConv3d, names: Sequence[str]) -> None:
        super().__init__()
        layers: list[Any] = [match.get_submodule(name) for name in names]
        self.grids: list[Grid] = [layer.query for layer in layers]
        self.whole = (max(h for h, _ in self.grids), max(w for _, w in self.grids))
        self.support, self.stride = layers[0].support, layers[0].stride
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
