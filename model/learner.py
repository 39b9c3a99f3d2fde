"""The squeeze network: 4D convolutional pyramid encoder and 2D decoder (paper section 4.3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hsnet_trt.model.center_pivot import CenterPivotConv4d

GROUPS = 4
WIDTHS = (16, 64, 128)


class HPNLearner(nn.Module):
    """Hypercorrelations of three levels -> background and foreground logits.

    The names of the class and its parts are the authors', so that their checkpoints load.
    """

    def __init__(self, layers: tuple[int, int, int]) -> None:
        """`layers`: how many feature layers are stacked at levels 2, 3 and 4."""
        super().__init__()
        level2, level3, level4 = layers
        wide = WIDTHS[-1]
        self.encoder_layer4 = _block(level4, WIDTHS, (3, 3, 3), (2, 2, 2))
        self.encoder_layer3 = _block(level3, WIDTHS, (5, 3, 3), (4, 2, 2))
        self.encoder_layer2 = _block(level2, WIDTHS, (5, 5, 3), (4, 4, 2))
        self.encoder_layer4to3 = _block(wide, (wide,) * 3, (3, 3, 3), (1, 1, 1))
        self.encoder_layer3to2 = _block(wide, (wide,) * 3, (3, 3, 3), (1, 1, 1))
        self.decoder1 = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(wide, 64, 3, padding=1),
            nn.ReLU(),
        )
        self.decoder2 = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 2, 3, padding=1)
        )

    def forward(self, level2: Tensor, level3: Tensor, level4: Tensor) -> Tensor:
        """Hypercorrelations [P,L,hq,wq,hs,ws] of each level -> logits [P,2,2*h2,2*w2]."""
        squeezed2 = self.encoder_layer2(level2)
        squeezed3 = self.encoder_layer3(level3)
        squeezed4 = self.encoder_layer4(level4)
        mixed = self.encoder_layer4to3(_add_coarser(squeezed3, squeezed4))
        mixed = self.encoder_layer3to2(_add_coarser(squeezed2, mixed))
        decoded = self.decoder1(mixed.mean(dim=(4, 5)))
        return self.decoder2(upsample(decoded, (2 * decoded.shape[2], 2 * decoded.shape[3])))


def _block(
    channels: int, widths: tuple[int, ...], kernels: tuple[int, ...], strides: tuple[int, ...]
) -> nn.Sequential:
    modules: list[nn.Module] = []
    for width, kernel, stride in zip(widths, kernels, strides, strict=True):
        modules += [
            CenterPivotConv4d(channels, width, kernel, stride),
            nn.GroupNorm(GROUPS, width),
            nn.ReLU(),
        ]
        channels = width
    return nn.Sequential(*modules)


def _add_coarser(fine: Tensor, coarse: Tensor) -> Tensor:
    """`fine` plus `coarse`, with the query grid of `coarse` resized to that of `fine`.

    The squeezed support grids of two levels agree at nearly all sizes. If rounding makes one
    larger (VGG-16 from 264 to 280 pixels: 2x2 and 1x1), the smaller one is resized to it; for 1x1
    this equals the authors' broadcasting.
    """
    support = (max(fine.shape[4], coarse.shape[4]), max(fine.shape[5], coarse.shape[5]))
    query = (fine.shape[2], fine.shape[3])
    return _resize4d(fine, query, support) + _resize4d(coarse, query, support)


def _resize4d(x: Tensor, query: tuple[int, int], support: tuple[int, int]) -> Tensor:
    pairs, channels, hq, wq, hs, ws = x.shape
    if (hq, wq) != query:
        flat = upsample(x.permute(0, 4, 5, 1, 2, 3).flatten(0, 2), query)
        x = flat.view(pairs, hs, ws, channels, *query).permute(0, 3, 4, 5, 1, 2)
    if (hs, ws) != support:
        flat = upsample(x.permute(0, 2, 3, 1, 4, 5).flatten(0, 2), support)
        x = flat.view(pairs, *query, channels, *support).permute(0, 3, 1, 2, 4, 5)
    return x


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resizing of [N,C,h,w] with aligned corners, as everywhere in HSNet."""
    return F.interpolate(x, size, mode="bilinear", align_corners=True)
