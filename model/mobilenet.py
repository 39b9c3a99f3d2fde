"""MobileNetV2 (arXiv 1801.04381) as a pyramid of intermediate features: for small devices.

Parameter names are torchvision's (`mobilenet_v2`). The last convolution (stride 32, 1,280 channels)
and the classifier are left out: HSNet does not use them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from hsnet_trt.model.pyramid import grid_rounded_up, levels_of_one_width

# For each stage (table 2 of the paper): number of blocks, first stride, expansion, channels.
_STAGES = (
    (1, 1, 1, 16),
    (2, 2, 6, 24),
    (3, 2, 6, 32),
    (4, 2, 6, 64),
    (3, 1, 6, 96),
    (3, 2, 6, 160),
    (1, 1, 6, 320),
)
# Blocks whose outputs are levels 2, 3 and 4.
_TAPS = ((3, 4, 5), (6, 7, 8, 9, 10, 11, 12), (13, 14, 15, 16))
# Names of a block's modules: in the first published PyTorch weights (one flat list) -> torchvision.
_NESTED = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}
_NESTED_FIRST = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}  # first block: no expansion


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project; shortcut if the shape is unchanged. No last ReLU."""

    def __init__(self, inplanes: int, planes: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inplanes * expansion
        expand = [_convolve(inplanes, width, 1)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *expand,
            _convolve(width, width, 3, stride, groups=width),
            nn.Conv2d(width, planes, 1, bias=False),
            nn.BatchNorm2d(planes),
        )
        self.shortcut = stride == 1 and inplanes == planes

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """The features of every block at strides 8, 16 and 32.

    The blocks of a level differ in width. Narrower ones are padded with zero channels, which leave
    the cosine unchanged.
    """

    grid = staticmethod(grid_rounded_up)
    layers = (3, 7, 4)
    channels = (32, 96, 320)

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = [_convolve(3, 32, 3, 2)]
        inplanes = 32
        for count, stride, expansion, planes in _STAGES:
            for i in range(count):
                parts.append(InvertedResidual(inplanes, planes, stride if i == 0 else 1, expansion))
                inplanes = planes
        self.features = nn.Sequential(*parts)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> list[list[Tensor]]:
        """[N,3,H,W] -> for levels 2, 3, 4 the list of its features, each [N,C,h,w]."""
        x, outputs = image, []
        for part in self.features:
            x = part(x)
            outputs.append(x)
        return levels_of_one_width(outputs[1:], _TAPS, self.channels)


def torchvision_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights of flat blocks (`features.2.conv.6`) as torchvision does.

    The first published PyTorch weights have this form. All other keys stay as they are.
    """
    if "backbone.features.1.conv.0.weight" not in state:
        return dict(state)

    def renamed(key: str) -> str:
        found = re.fullmatch(r"(backbone\.features\.(\d+)\.conv\.)(\d)(\..+)", key)
        if found is None:
            return key
        before, block, at, after = found.groups()
        places = _NESTED_FIRST if block == "1" else _NESTED
        return before + places.get(at, at) + after

    return {renamed(key): value for key, value in state.items()}


def _convolve(
    inplanes: int, planes: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inplanes, planes, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(planes),
        nn.ReLU6(),
    )
