"""HSNet in PyTorch in the authors' order of operations: the baseline of every speed-up.

Weights and results are those of `HSNet`. But the pyramid's layers are masked, normalised and
multiplied one by one; every tensor is permuted and copied before and after each of the two
convolutions of a center-pivot convolution; and query and support are encoded again for every shot.
`match` alone, on supports encoded before, shows the gain of caching them. A background contrast and
self-support, which the authors do not have, are added as in `HSNet`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsnet_trt.model.center_pivot import CenterPivotConv4d
from hsnet_trt.model.contrast import raised
from hsnet_trt.model.correlation import EPSILON
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.learner import upsample
from hsnet_trt.model.resnet import BasicBlock, Bottleneck, ResNet

Layers = list[Tensor]  # all layers of levels 2, 3, 4 in the backbone's order, each [N,C,h,w]


class AuthorsOrder(nn.Module):
    """A copy of the network `model`, run in the authors' order."""

    def __init__(self, model: HSNet) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(model.backbone)
        self.learner = copy.deepcopy(model.hpn_learner)
        self.contrast = copy.deepcopy(model.contrast)
        self.self_support = copy.deepcopy(model.self_support)
        self.counts = model.backbone.layers  # layers of levels 2, 3, 4
        if isinstance(self.backbone, ResNet):  # in place as in torchvision; else 5 % slower
            for module in self.backbone.modules():
                if isinstance(module, (BasicBlock, Bottleneck)):
                    module.relu = nn.ReLU(inplace=True)

    def forward(self, query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
        """Images [B,3,H,W], [B,3,H,W] and masks [B,H,W] -> logits [B,2,H,W]; nothing is cached."""
        features = self.encode(query)
        return self.match(features, self.encode_support(support, mask), query.shape[2:])

    def encode(self, image: Tensor) -> Layers:
        """Raw features of every layer."""
        return [layer for level in self.backbone(image) for layer in level]

    def encode_support(self, image: Tensor, mask: Tensor) -> Layers:
        """Masked features of every layer; the mask [B,H,W] is resized for each layer anew.

        With a background contrast, its two vectors [B,1,C,1] follow.
        """
        layers = self.encode(image)
        masked = [
            layer * upsample(mask[:, None], (layer.shape[2], layer.shape[3])) for layer in layers
        ]
        if self.contrast is None:
            return masked
        last, grids = self._last(layers)
        return [*masked, *self.contrast.support(last, mask, grids)]

    def match(self, query: Layers, support: Layers, size: Sequence[int]) -> Tensor:
        """Features of B queries and masked features of B supports -> logits [B,2,*size]."""
        shown, vectors = support[: len(query)], support[len(query) :]
        correlations = [_correlate(q, s) for q, s in zip(query, shown, strict=True)]
        pyramid, first = [], 0
        for count in self.counts:
            level = torch.stack(correlations[first : first + count])
            pyramid.append(level.transpose(0, 1).contiguous())
            first += count
        logits = self._squeeze_and_decode(*pyramid)
        last, grids = self._last(query)
        if self.contrast is not None:
            plane = (logits.shape[2], logits.shape[3])
            logits = raised(logits, self.contrast(last, vectors, grids, plane))
        if self.self_support is not None:
            logits = raised(logits, self.self_support(logits, last, grids))
        return upsample(logits, (size[0], size[1]))

    def _last(self, layers: Layers) -> tuple[list[Tensor], list[tuple[int, int]]]:
        """The last layer of each level, [B,1,C,h*w], and the levels' (h, w)."""
        ends = itertools.accumulate(self.counts)
        last = [layers[end - 1] for end in ends]
        grids = [(layer.shape[2], layer.shape[3]) for layer in last]
        return [layer.flatten(2)[:, None] for layer in last], grids

    def _squeeze_and_decode(self, level2: Tensor, level3: Tensor, level4: Tensor) -> Tensor:
        net = self.learner
        squeezed4 = _run(net.encoder_layer4, level4)
        squeezed3 = _run(net.encoder_layer3, level3)
        squeezed2 = _run(net.encoder_layer2, level2)
        mixed = _resize_query(squeezed4, squeezed3.shape[2:4]) + squeezed3
        mixed = _run(net.encoder_layer4to3, mixed)
        mixed = _resize_query(mixed, squeezed2.shape[2:4]) + squeezed2
        mixed = _run(net.encoder_layer3to2, mixed)
        decoded = net.decoder1(mixed.flatten(4).mean(dim=-1))
        height, width = decoded.shape[2:]
        decoded = net.decoder2(upsample(decoded, (2 * height, 2 * width)))
        return decoded  # type: ignore[no-any-return]


def vote(logits: Sequence[Tensor]) -> Tensor:
    """Logits [B,2,H,W] of each shot -> the voted mask, bool [B,H,W] (paper section 4.4)."""
    votes = torch.stack([shot.argmax(dim=1) for shot in logits]).sum(dim=0)
    most = votes.flatten(1).amax(dim=1).clamp(min=1)
    return votes.float() / most[:, None, None] >= 0.5


def _correlate(query: Tensor, support: Tensor) -> Tensor:
    """[B,C,hq,wq] and [B,C,hs,ws] -> clamped cosine similarities [B,hq,wq,hs,ws]."""
    products = torch.bmm(_unit(query).transpose(1, 2), _unit(support))
    shape = (query.shape[0], *query.shape[2:], *support.shape[2:])
    return products.view(shape).clamp(min=0)


def _unit(features: Tensor) -> Tensor:
    flat = features.flatten(2)
    return flat / (flat.norm(dim=1, keepdim=True) + EPSILON)


def _run(block: nn.Module, x: Tensor) -> Tensor:
    for module in block.children():
        if isinstance(module, CenterPivotConv4d):
            x = _center_pivot(module, x)
        elif isinstance(module, nn.ReLU):
            x = F.relu_(x)
        else:
            x = module(x)
    return x


def _center_pivot(layer: CenterPivotConv4d, x: Tensor) -> Tensor:
    """Two 2D convolutions, with a copy of the tensor before and after each."""
    pruned = _prune(x, layer.stride) if layer.stride > 1 else x
    over_query = layer.conv1(_fold(pruned, (0, 4, 5, 1, 2, 3)))
    shape = (x.shape[0], *pruned.shape[4:], *over_query.shape[1:])
    over_query = over_query.view(shape).permute(0, 3, 4, 5, 1, 2).contiguous()
    over_support = layer.conv2(_fold(x, (0, 2, 3, 1, 4, 5)))
    shape = (x.shape[0], *x.shape[2:4], *over_support.shape[1:])
    over_support = over_support.view(shape).permute(0, 3, 1, 2, 4, 5).contiguous()
    return over_query + over_support  # type: ignore[no-any-return]


def _fold(x: Tensor, order: tuple[int, ...]) -> Tensor:
    """Permute, copy, and merge the first three dimensions into a batch."""
    return x.permute(order).contiguous().flatten(0, 2)


def _prune(x: Tensor, stride: int) -> Tensor:
    """Every `stride`-th support position, gathered by index."""
    hs, ws = x.shape[4:]
    rows = torch.arange(0, hs, stride, device=x.device)
    columns = torch.arange(0, ws, stride, device=x.device)
    index = (rows[:, None] * ws + columns).flatten()
    kept = x.flatten(4).index_select(4, index)
    return kept.unflatten(4, (len(rows), len(columns)))


def _resize_query(x: Tensor, grid: Sequence[int]) -> Tensor:
    pairs, channels, _, _, hs, ws = x.shape
    resized = upsample(_fold(x, (0, 4, 5, 1, 2, 3)), (grid[0], grid[1]))
    shape = (pairs, hs, ws, channels, *grid)
    return resized.view(shape).permute(0, 3, 4, 5, 1, 2).contiguous()
