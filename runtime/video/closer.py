"""Where to look closer: the part of a frame that the network is shown by itself, and so larger.

What is found in a window is put back into a plane of the whole frame, where the average over time
is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hsnet_trt.runtime.pictures.preprocess import Floats, Placement
from hsnet_trt.runtime.pictures.window import Window, window_about
from hsnet_trt.runtime.video.motion import load_opencv

Numbers = npt.NDArray[np.floating]

CROP = 1.5  # sides of a cropped support, in those of its object's box: as large as in a window
_WHOLE = 4  # one frame of so many is looked at as a whole: what comes in elsewhere is found there
_ROOM = 1.6  # sides of a window, in those of what it is to show
# Sides of windows, in those of the frame. Few, since a GPU keeps tables for each size.
_SIDES = (0.3, 0.37, 0.46, 0.57, 0.71, 0.88)
_FEWEST = 4  # positions of a part that is looked at
_RIM = 6.0  # positions at a window's rim that count less: their surroundings are missing
_LEAST = 0.1  # how much they count
_SMOOTH = 1.5  # times smaller, from which on planes are smoothed first
_ROUNDING = 1e-3  # positions


@dataclass(frozen=True)
class View:
    """What the network was shown of a frame.

    Attributes:
        window: the part of the frame.
        placement: where that is in the network's input.
        whole: where the whole frame would be.
    """

    window: Window
    placement: Placement
    whole: Placement

    def spread(self, planes: Floats) -> tuple[Floats, Floats]:
        """Put what was found into planes of the whole frame.

        Args:
            planes: float32 [S,h,w], of the window.

        Returns:
            Float32 [S,h,w], zero outside of the window; and how much each position of it counts,
            float32 [h,w] in [0,1].
        """
        cv2 = load_opencv()
        height, width = planes.shape[1:]
        rows, columns = (self._along(axis, n) for axis, n in enumerate((height, width)))
        # Where positions come closer together, they are averaged.
        wide = max(self.whole.source[0] / self.window.height, 1)
        origin = [np.ascontiguousarray(part) for part in np.meshgrid(columns, rows)]
        found = np.empty_like(planes)
        for plane, target in zip(planes, found, strict=True):
            smooth = cv2.GaussianBlur(plane, (0, 0), 0.35 * (wide - 1)) if wide > _SMOOTH else plane
            target[:] = cv2.remap(smooth, *origin, cv2.INTER_LINEAR, borderValue=0)
        down = self._counts(0, rows, height - 1)
        across = self._counts(1, columns, width - 1)
        return found, np.minimum(down[:, None], across)

    def _along(self, axis: int, count: int) -> Floats:
        """Which position of the window each of the frame's positions is, along an axis."""
        start = (self.window.top, self.window.left)[axis]
        pixel = _pixels(self.whole, axis, np.arange(count) / (count - 1)) - start
        return (_shares(self.placement, axis, pixel) * (count - 1)).astype(np.float32)

    def _counts(self, axis: int, at: Floats, last: int) -> Floats:
        """How much positions count, by their distance from the rims that are inside the frame."""
        start = (self.window.top, self.window.left)[axis]
        end = start + (self.window.height, self.window.width)[axis]
        rims = last * _shares(self.placement, axis, np.array([0, end - start - 1]))
        distance = np.full(len(at), np.inf, np.float32)
        if start > 0:
            distance = np.minimum(distance, at - rims[0])
        if end < self.whole.source[axis]:
            distance = np.minimum(distance, rims[1] - at)
        counts = np.clip(distance / _RIM, _LEAST, 1)
        inside = (at >= rims[0] - _ROUNDING) & (at <= rims[1] + _ROUNDING)
        return np.where(inside, counts, 0).astype(np.float32)


class Looks:
    """Which part of each frame is looked at. For one video."""

    def __init__(self) -> None:
        self._boxes: list[tuple[int, int, int, int]] = []
        self._shape = (2, 2)
        self._frame = self._close = 0

    def choose(self, whole: Placement) -> Window | None:
        """The window of the next frame; None for all of it.

        Args:
            whole: where the frame is in the network's input.
        """
        number, self._frame = self._frame, self._frame + 1
        if number % _WHOLE == 0 or not self._boxes:
            return None
        box = self._boxes[self._close % len(self._boxes)]
        self._close += 1
        return _window(box, self._shape, whole)

    def follow(self, shown: Iterable[Floats]) -> None:
        """Take what is shown of each class, planes [h,w]: the next windows are about that."""
        cv2 = load_opencv()
        self._boxes = []
        for plane in shown:
            self._shape = (plane.shape[0], plane.shape[1])
            inside = (plane > 0).astype(np.uint8)
            count, _, facts, _ = cv2.connectedComponentsWithStats(inside, connectivity=4)
            self._boxes += [
                (int(y), int(y + height), int(x), int(x + width))
                for x, y, width, height, area in facts[1:count]
                if area >= _FEWEST
            ]

    def forget(self) -> None:
        """Nothing is known of where things are."""
        self._boxes = []


def _window(
    box: tuple[int, int, int, int], shape: tuple[int, int], whole: Placement
) -> Window | None:
    """The window about a box of positions; None where it would be nearly the whole frame."""
    spans = []
    for axis, (first, end) in enumerate((box[:2], box[2:])):
        shares = np.array([first, end - 1]) / (shape[axis] - 1)
        low, high = _pixels(whole, axis, shares) / max(1, whole.source[axis] - 1)
        spans.append((float(low), float(high)))
    wanted = _ROOM * max(high - low for low, high in spans)
    side = next((side for side in _SIDES if side >= wanted), None)
    if side is None:
        return None
    (top, bottom), (left, right) = spans
    height, width = whole.source
    middle = ((top + bottom) / 2 * (height - 1), (left + right) / 2 * (width - 1))
    return window_about(middle, side, whole.source)


def _pixels(placement: Placement, axis: int, shares: Numbers) -> Numbers:
    """Pixels of a photograph at these shares of a plane's side; see `sample_positions`."""
    content, network = placement.content[axis], placement.network[axis]
    inside = shares * (network - 1) - (placement.top, placement.left)[axis]
    found: Numbers = inside * ((placement.source[axis] - 1) / max(1, content - 1))
    return found


def _shares(placement: Placement, axis: int, pixels: Numbers) -> Numbers:
    """The other way round."""
    content, network = placement.content[axis], placement.network[axis]
    inside = pixels * ((content - 1) / max(1, placement.source[axis] - 1))
    found: Numbers = (inside + (placement.top, placement.left)[axis]) / max(1, network - 1)
    return found
