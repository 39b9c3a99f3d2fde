"""ResNet-18, -50 and -101 as a pyramid of intermediate features.

Parameter names are torchvision's, so its published weights load unchanged. The classifier is left
out: HSNet does not use it.
"""

from __future__ import annotations

from torch import Tensor, nn

from hsnet_trt.model.pyramid import grid_rounded_up

STRUCTURE: dict[str, tuple[int, int, int, int]] = {
    "resnet18": (2, 2, 2, 2),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; returns the sum *before* the last ReLU."""

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(inplanes, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return y + (x if self.downsample is None else self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; returns the sum *before* the last ReLU."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        width = planes * self.expansion
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(inplanes, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return y + (x if self.downsample is None else self.downsample(x))


class ResNet(nn.Module):
    """The features of every block of layers 2, 3 and 4 (strides 8, 16, 32), before its ReLU."""

    grid = staticmethod(grid_rounded_up)

    def __init__(self, name: str) -> None:
        super().__init__()
        depths = STRUCTURE[name]
        block: type[BasicBlock] | type[Bottleneck] = (
            BasicBlock if name == "resnet18" else Bottleneck
        )
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        inplanes = 64
        for level, depth in enumerate(depths, start=1):
            planes, blocks = 32 << level, []
            for i in range(depth):
                blocks.append(block(inplanes, planes, 2 if level > 1 and i == 0 else 1))
                inplanes = planes * block.expansion
            setattr(self, f"layer{level}", nn.Sequential(*blocks))
        self.layers = depths[1:]
        self.channels = tuple((32 << level) * block.expansion for level in (2, 3, 4))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> list[list[Tensor]]:
        """[N,3,H,W] -> for levels 2, 3, 4 the list of its features, each [N,C,h,w]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        pyramid: list[list[Tensor]] = []
        for level in (1, 2, 3, 4):
            features = []
            for block in getattr(self, f"layer{level}"):
                feature = block(x)
                features.append(feature)
                x = self.relu(feature)
            pyramid.append(features)
        return pyramid[1:]


def _shortcut(inplanes: int, planes: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inplanes == planes:
        return None
    return nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))
