"""A part of a photograph that the network is shown by itself, and so larger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels inside a photograph."""

    top: int
    left: int
    height: int
    width: int

    def of(self, pixels: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Those pixels of [H,W,...], a view."""
        rows = slice(self.top, self.top + self.height)
        return pixels[rows, self.left : self.left + self.width]


def window_about(middle: tuple[float, float], side: float, size: tuple[int, int]) -> Window:
    """A window of a photograph's own proportions, which is moved to be inside.

    Args:
        middle: row and column of its middle, in pixels.
        side: its sides, in those of the photograph; in (0,1].
        size: the photograph's height and width.
    """
    starts, lengths = [], []
    for at, whole in zip(middle, size, strict=True):
        length = min(whole, max(1, round(side * whole)))
        starts.append(min(max(round(at - length / 2), 0), whole - length))
        lengths.append(length)
    return Window(*starts, *lengths)


def crop_about(mask: npt.NDArray[np.bool_], room: float) -> Window:
    """The window about a mask's object whose sides are `room` times those of the object's box.

    It has the photograph's proportions and no less than a sixteenth of its sides. Where nothing is
    marked, it is the whole photograph.
    """
    spans = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    if not len(spans[0]):
        return Window(0, 0, *mask.shape)
    share = max((s[-1] + 1 - s[0]) / n for s, n in zip(spans, mask.shape, strict=True))
    middle = ((spans[0][0] + spans[0][-1] + 1) / 2, (spans[1][0] + spans[1][-1] + 1) / 2)
    return window_about(middle, float(min(1, max(1 / 16, room * share))), mask.shape)
