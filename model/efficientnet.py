"""EfficientNet-Lite0 as a pyramid of intermediate features: a backbone for small devices.

Parameter names are those of the published PyTorch conversions of Google's weights
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite). The classifier is
left out: HSNet does not use it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hsnet_trt.model.pyramid import grid_rounded_up, levels_of_one_width

# For each stage: number of blocks, kernel, stride of the first block, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# Blocks whose outputs are levels 2, 3 and 4.
_TAPS = ((3, 4), (5, 6, 7, 8, 9, 10), (11, 12, 13, 14, 15))
_EPSILON = 1e-3
# These weights expect (v - 127) / 128 for v in 0..255; HSNet's images are normalised as below.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project; shortcut if the shape is unchanged. No last ReLU."""

    def __init__(self, inplanes: int, planes: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        width = inplanes * expansion
        self.expanded, self.shortcut = expansion > 1, stride == 1 and inplanes == planes
        if self.expanded:
            self._expand_conv = nn.Conv2d(inplanes, width, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(width, eps=_EPSILON)
        self._depthwise_conv = nn.Conv2d(
            width, width, kernel, stride, padding=kernel // 2, groups=width, bias=False
        )
        self._bn1 = nn.BatchNorm2d(width, eps=_EPSILON)
        self._project_conv = nn.Conv2d(width, planes, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(planes, eps=_EPSILON)
        self.relu = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self._bn0(self._expand_conv(x))) if self.expanded else x
        y = self.relu(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return y + x if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """The features of every block at strides 8, 16 and 32.

    The blocks of a level differ in width. Narrower ones are padded with zero channels, which leave
    the cosine unchanged.
    """

    grid = staticmethod(grid_rounded_up)
    layers = (2, 6, 5)
    channels = (40, 112, 320)
    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, padding=1, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=_EPSILON)
        self.relu = nn.ReLU6()
        blocks, inplanes = [], 32
        for count, kernel, stride, expansion, planes in _STAGES:
            for i in range(count):
                blocks.append(
                    InvertedResidual(inplanes, planes, kernel, stride if i == 0 else 1, expansion)
                )
                inplanes = planes
        self._blocks = nn.ModuleList(blocks)
        mean, std = torch.tensor(_MEAN), torch.tensor(_STD)
        self.register_buffer("scale", (std * 255 / 128).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", ((mean * 255 - 127) / 128).view(3, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> list[list[Tensor]]:
        """[N,3,H,W] -> for levels 2, 3, 4 the list of its features, each [N,C,h,w]."""
        x = self.relu(self._bn0(self._conv_stem(image * self.scale + self.shift)))
        outputs = []
        for block in self._blocks:
            x = block(x)
            outputs.append(x)
        return levels_of_one_width(outputs, _TAPS, self.channels)
