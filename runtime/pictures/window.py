"""A part of a photograph that the network is shown by itself, and so larger."""

from __future__ import annotations

from dataclasses import dataclass

from hsnet_trt.runtime.pictures.images import Pixels


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels inside a photograph."""

    top: int
    left: int
    height: int
    width: int

    def of(self, pixels: Pixels) -> Pixels:
        """Those pixels [height,width,3], a view."""
        rows = slice(self.top, self.top + self.height)
        return pixels[rows, self.left : self.left + self.width]
