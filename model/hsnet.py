"""HSNet: few-shot segmentation by squeezing hypercorrelations (arXiv 2104.01538)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hsnet_trt.errors import InputError
from hsnet_trt.model.contrast import BackgroundContrast, raised
from hsnet_trt.model.correlation import correlate, mask_features, normalize
from hsnet_trt.model.efficientnet import EfficientNetLite0
from hsnet_trt.model.learner import HPNLearner, upsample
from hsnet_trt.model.mobilenet import MobileNetV2
from hsnet_trt.model.resnet import STRUCTURE, ResNet
from hsnet_trt.model.self_support import SelfSupport
from hsnet_trt.model.vgg import VGG16

BACKBONES = ("vgg16", *STRUCTURE, "efficientnet_lite0", "mobilenet_v2")
SMALLEST = 64  # pixels; below it level 4 of VGG-16 has fewer than 2 positions a side

Levels = tuple[Tensor, Tensor, Tensor]  # levels 2, 3, 4, each [N,L,C,h*w]
# Encoded supports at levels 2, 3, 4, [S,L,C,h*w] each; with a background contrast followed by the
# vectors of levels 3 and 4, [S,1,C,1] each.
Encoded = tuple[Tensor, ...]


class HSNet(nn.Module):
    """The whole network (`forward`, `predict`), and the three parts that are deployed.

    Images are RGB in [0,1], normalised by ImageNet's mean and standard deviation; masks are
    0 or 1. Height and width are at least 64 pixels and may differ. No state is kept between calls.
    """

    def __init__(self, backbone: str, contrast: float = 0.0, self_support: float = 0.0) -> None:
        """Create the network with random weights.

        Args:
            backbone: one of `BACKBONES`.
            contrast: weight of the background contrast, which is not in the paper; 0 for none.
            self_support: weight of `SelfSupport`, which is not in the paper; 0 for none.

        Raises:
            InputError: `backbone` is unknown.
        """
        super().__init__()
        if backbone not in BACKBONES:
            raise InputError(
                f"there is no backbone {backbone!r}",
                expected=" | ".join(BACKBONES),
                fix="choose one of these",
            )
        self.name = backbone
        self.trained = False  # set by the code that loads or learns weights
        self.size: tuple[int, int] | None = None  # (height, width) that they were learned for
        self.present_from = 0.0  # score from which a class counts as present; 0: not calibrated
        self.refine = False  # whether the runtime refines the masks' edges
        self.backbone = _backbone(backbone)
        self.hpn_learner = HPNLearner(self.backbone.layers)
        self.contrast = BackgroundContrast(contrast) if contrast else None
        self.self_support = SelfSupport(self_support) if self_support else None

    def grids(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """(h, w) of the features of levels 2, 3, 4 for images of `size` = (H, W)."""
        heights, widths = (self.backbone.grid(extent) for extent in size)
        return list(zip(heights, widths, strict=True))

    def features(self, image: Tensor) -> Levels:
        """Images [N,3,H,W] -> raw features of levels 2, 3, 4, each [N,L,C,h*w].

        Raises:
            InputError: another shape, or a side below `SMALLEST`.
        """
        if image.ndim != 4 or image.shape[1] != 3 or min(image.shape[2:]) < SMALLEST:
            raise InputError(
                "these are not images",
                expected=f"[N,3,H,W] with H and W at least {SMALLEST}",
                found=list(image.shape),
            )
        level2, level3, level4 = (
            torch.stack([layer.flatten(2) for layer in level], dim=1)
            for level in self.backbone(image)
        )
        return level2, level3, level4

    def support(self, features: Levels, mask: Tensor) -> Encoded:
        """Features of S support images and masks [S,H,W] -> the supports that `match` takes.

        They are masked and L2-normalised, [S,L,C,h*w] each; positions outside the mask are zero.
        With a background contrast its vectors follow, and masks may be -1 outside the photograph.
        """
        grids = self.grids((mask.shape[1], mask.shape[2]))
        shown = mask if self.contrast is None else mask.clamp(min=0)
        levels = tuple(
            normalize(mask_features(level, shown, grid))
            for level, grid in zip(features, grids, strict=True)
        )
        if self.contrast is None:
            return levels
        return *levels, *self.contrast.support(features, mask, grids)

    def match(self, query: Levels, support: Encoded, size: tuple[int, int]) -> Tensor:
        """Match every query with every support.

        Args:
            query: features of B queries.
            support: S supports, as `support` returns them.
            size: (H, W) of the images.

        Returns:
            logits [B,S,2,2*h2,2*w2] at the decoder's resolution.
        """
        queries, supports = query[0].shape[0], support[0].shape[0]
        pairs = self.match_pairs(
            _three(level.repeat_interleave(supports, dim=0) for level in query),
            tuple(level.repeat(queries, 1, 1, 1) for level in support),
            size,
        )
        return pairs.unflatten(0, (queries, supports))

    def match_pairs(self, query: Levels, support: Encoded, size: tuple[int, int]) -> Tensor:
        """P queries with P supports, one to one -> logits [P,2,2*h2,2*w2]."""
        grids = self.grids(size)
        correlations = (
            correlate(q, s).unflatten(3, grid).unflatten(2, grid)
            for q, s, grid in zip(query, support[:3], grids, strict=True)
        )
        logits: Tensor = self.hpn_learner(*correlations)
        if self.contrast is not None:
            plane = (logits.shape[2], logits.shape[3])
            logits = raised(logits, self.contrast(query, support[3:], grids, plane))
        if self.self_support is not None:
            logits = raised(logits, self.self_support(logits, query, grids))
        return logits

    def forward(self, query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
        """One support for each query.

        Args:
            query: images [B,3,H,W].
            support: images [B,3,H,W].
            mask: the supports' masks [B,H,W].

        Returns:
            logits [B,2,H,W]: background, foreground.

        Raises:
            InputError: the shapes do not fit together, or a side is below `SMALLEST`.
        """
        if support.shape != query.shape or mask.shape != query.shape[:1] + query.shape[2:]:
            raise InputError(
                "query, support and mask do not belong together",
                expected="[B,3,H,W], [B,3,H,W] and [B,H,W]",
                found=[list(t.shape) for t in (query, support, mask)],
            )
        size = (query.shape[2], query.shape[3])
        encoded = self.support(self.features(support), mask.to(support.dtype))
        return upsample(self.match_pairs(self.features(query), encoded, size), size)

    @torch.no_grad()
    def predict(self, query: Tensor, supports: Tensor, masks: Tensor) -> Tensor:
        """The mask that K shots vote for (paper section 4.4).

        Args:
            query: images [B,3,H,W].
            supports: images [B,K,3,H,W].
            masks: their masks [B,K,H,W].

        Returns:
            [B,H,W] in {0, 1}, float32.

        Raises:
            InputError: the shapes do not fit together, or a side is below `SMALLEST`.
        """
        if (
            supports.ndim != 5
            or not supports.shape[1]
            or query.shape != supports.shape[:1] + supports.shape[2:]
            or masks.shape != supports.shape[:2] + supports.shape[3:]
        ):
            raise InputError(
                "query, supports and masks do not belong together",
                expected="[B,3,H,W], [B,K,3,H,W] and [B,K,H,W], K at least 1",
                found=[list(t.shape) for t in (query, supports, masks)],
            )
        size = (query.shape[2], query.shape[3])
        features = self.features(query)
        votes = torch.zeros(masks[:, 0].shape, device=query.device)
        for k in range(supports.shape[1]):
            encoded = self.support(self.features(supports[:, k]), masks[:, k].to(supports.dtype))
            logits = upsample(self.match_pairs(features, encoded, size), size)
            votes += logits.argmax(dim=1)
        most = votes.flatten(1).amax(dim=1).clamp(min=1)
        return (votes / most[:, None, None] >= 0.5).float()


def _backbone(name: str) -> VGG16 | ResNet | EfficientNetLite0 | MobileNetV2:
    if name == "vgg16":
        return VGG16()
    if name == "mobilenet_v2":
        return MobileNetV2()
    return EfficientNetLite0() if name == "efficientnet_lite0" else ResNet(name)


def _three(levels: Iterable[Tensor]) -> Levels:
    level2, level3, level4 = levels
    return level2, level3, level4
