"""Windows: parts of a photograph that the network is given alone, at a larger scale."""

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
        """The window's pixels of an array [H,W,...], as a view."""
        rows = slice(self.top, self.top + self.height)
        return pixels[rows, self.left : self.left + self.width]


def window_about(middle: tuple[float, float], side: float, size: tuple[int, int]) -> Window:
    """A window with the photograph's aspect ratio, shifted to lie inside it.

    Args:
        middle: row and column of the window's centre, in pixels.
        side: the window's sides as a share of the photograph's, in (0,1].
        size: the photograph's height and width.
    """
    starts, lengths = [], []
    for at, whole in zip(middle, size, strict=True):
        length = min(whole, max(1, round(side * whole)))
        starts.append(min(max(round(at - length / 2), 0), whole - length))
        lengths.append(length)
    return Window(*starts, *lengths)


def crop_about(mask: npt.NDArray[np.bool_], room: float) -> Window:
    """The window around a mask's object that holds `room` times the sides of the object's box.

    It has the photograph's aspect ratio and at least a sixteenth of its sides. For an empty mask it
    is the whole photograph.
    """
    spans = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    if not len(spans[0]):
        return Window(0, 0, *mask.shape)
    share = max((s[-1] + 1 - s[0]) / n for s, n in zip(spans, mask.shape, strict=True))
    middle = ((spans[0][0] + spans[0][-1] + 1) / 2, (spans[1][0] + spans[1][-1] + 1) / 2)
    return window_about(middle, float(min(1, max(1 / 16, room * share))), mask.shape)
