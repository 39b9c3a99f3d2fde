"""VGG-16 (without batch-norm) as a pyramid of intermediate features, with torchvision's names."""

from __future__ import annotations

from torch import Tensor, nn

# Widths of the convolutions; 0 stands for a 2x2 max pooling.
_PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
# Modules of `features` whose outputs form the pyramid: convolutions before their ReLU, and the
# last pooling as level 4.
_TAPS = ((17, 19, 21), (24, 26, 28), (30,))


class VGG16(nn.Module):
    """The features of levels 2, 3 and 4 (strides 8, 16, 32), 512 channels each."""

    layers = (3, 3, 1)
    channels = (512, 512, 512)

    def __init__(self) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        channels = 3
        for width in _PLAN:
            if width == 0:
                modules.append(nn.MaxPool2d(2, 2))
            else:
                modules += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*modules)
        for module in modules:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> list[list[Tensor]]:
        """[N,3,H,W] -> for levels 2, 3, 4 the list of its features, each [N,512,h,w]."""
        outputs = {}
        x = image
        for index, module in enumerate(self.features):
            x = module(x)
            outputs[index] = x
        return [[outputs[index] for index in taps] for taps in _TAPS]

    @staticmethod
    def grid(size: int) -> tuple[int, int, int]:
        """The extent of levels 2, 3, 4 for an input of `size` pixels: halved, rounded down."""
        return size >> 3, size >> 4, size >> 5
