"""The loss of a batch: cross-entropy on logits at the images' size (paper section 4.4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsnet_trt.model.hsnet import HSNet, Levels
from hsnet_trt.model.learner import upsample


class Objective(nn.Module):
    """The loss of pairs of images; a module, so that torch.compile compiles it as a whole."""

    def __init__(self, model: HSNet, *, train_backbone: bool, both_ways: bool) -> None:
        super().__init__()
        self.model = model
        self.train_backbone, self.both_ways = train_backbone, both_ways
        for parameter in model.backbone.parameters():
            parameter.requires_grad_(train_backbone)

    def train(self, mode: bool = True) -> Objective:
        """Set the mode; a frozen backbone stays in eval mode and keeps ImageNet's statistics."""
        super().train(mode)
        self.model.backbone.train(mode and self.train_backbone)
        return self

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Images [2B,3,H,W], queries then supports, and masks [2B,H,W] -> the mean loss, a scalar.

        Every pixel counts: the authors, too, train with PASCAL's object boundaries as background.
        """
        size, half = (images.shape[2], images.shape[3]), len(images) // 2
        with torch.set_grad_enabled(self.train_backbone and torch.is_grad_enabled()):
            features = self.model.features(images)
        if self.both_ways:
            encoded = self.model.support(features, masks.float())
            support = tuple(level.roll(half, 0) for level in encoded)
            query, truth = features, masks
        else:
            shown = _each(features, lambda level: level[half:])
            support = self.model.support(shown, masks[half:].float())
            query, truth = _each(features, lambda level: level[:half]), masks[:half]
        logits = upsample(self.model.match_pairs(query, support, size).float(), size)
        losses = F.cross_entropy(logits, truth.long(), reduction="none").mean((1, 2))
        # Swapped, an episode without the class in its query has an empty support: it is left out.
        asks = (
            masks.roll(half, 0).flatten(1).any(1) if self.both_ways else masks[half:].any(2).any(1)
        )
        return (losses * asks).sum() / asks.sum().clamp(min=1)


def _each(levels: Levels, change: Callable[[Tensor], Tensor]) -> Levels:
    level2, level3, level4 = (change(level) for level in levels)
    return level2, level3, level4
