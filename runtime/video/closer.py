"""Closer looks: the network is given a window of the frame, and so sees it at a larger scale.

The window's logits are resampled into the plane of the whole frame, where the average over time is
kept.
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

# Side of a support's crop over that of its object's box, so that objects appear as large as in a
# window.
CROP = 1.5
_WHOLE = 4  # one frame in 4 is matched whole, to find what enters outside the windows
_ROOM = 1.6  # side of a window over that of the object's box
# Sides of windows as shares of the frame's. Few, since a GPU keeps tables for each size.
_SIDES = (0.3, 0.37, 0.46, 0.57, 0.71, 0.88)
_FEWEST = 4  # positions that a connected part needs to get a window
_RIM = 6.0  # positions over which weights rise from a window's edge, where context is missing
_LEAST = 0.1  # weight at the edge
_SMOOTH = 1.5  # downscaling factor above which planes are blurred first
_ROUNDING = 1e-3  # positions


@dataclass(frozen=True)
class View:
    """The window of a frame that the network was given.

    Attributes:
        window: in the frame's pixels.
        placement: where the window is in the network's input.
        whole: where the whole frame would be in it.
    """

    window: Window
    placement: Placement
    whole: Placement

    def spread(self, planes: Floats) -> tuple[Floats, Floats]:
        """Resample the window's planes into planes of the whole frame.

        Args:
            planes: float32 [S,h,w], of the window.

        Returns:
            Planes float32 [S,h,w], zero outside the window; and the weight of each position,
            float32 [h,w]: 0 outside the window, 0.1 to 1 inside.
        """
        cv2 = load_opencv()
        height, width = planes.shape[1:]
        rows, columns = (self._along(axis, n) for axis, n in enumerate((height, width)))
        # Blur before downscaling, against aliasing.
        wide = max(self.whole.source[0] / self.window.height, 1)
        origin = columns[None].repeat(height, axis=0), rows[:, None].repeat(width, axis=1)
        found = np.empty_like(planes)
        for plane, target in zip(planes, found, strict=True):
            smooth = cv2.GaussianBlur(plane, (0, 0), 0.35 * (wide - 1)) if wide > _SMOOTH else plane
            target[:] = cv2.remap(smooth, *origin, cv2.INTER_LINEAR, borderValue=0)
        down = self._counts(0, rows, height - 1)
        across = self._counts(1, columns, width - 1)
        return found, np.minimum(down[:, None], across)

    def _along(self, axis: int, count: int) -> Floats:
        """Along one axis, the window's coordinate of each of the frame's positions."""
        start = (self.window.top, self.window.left)[axis]
        pixel = _pixels(self.whole, axis, np.arange(count) / (count - 1)) - start
        return (_shares(self.placement, axis, pixel) * (count - 1)).astype(np.float32)

    def _counts(self, axis: int, at: Floats, last: int) -> Floats:
        """Weights by distance from the window's edges; edges on the frame's border do not count."""
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
    """Chooses the window of each frame of one video."""

    def __init__(self) -> None:
        self._boxes: list[tuple[int, int, int, int]] = []
        self._shape = (2, 2)
        self._frame = self._close = 0

    def choose(self, whole: Placement) -> Window | None:
        """The window of the next frame; None for the whole frame.

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
        """Aim the next windows at the connected foreground parts of each class's plane [h,w]."""
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
        """Drop all parts; the next frame is matched whole."""
        self._boxes = []


def _window(
    box: tuple[int, int, int, int], shape: tuple[int, int], whole: Placement
) -> Window | None:
    """The window around a box of positions; None if it would be nearly the whole frame."""
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
    """Shares of a plane's side, in [0,1], to pixels of the photograph; see `sample_positions`."""
    content, network = placement.content[axis], placement.network[axis]
    inside = shares * (network - 1) - (placement.top, placement.left)[axis]
    found: Numbers = inside * ((placement.source[axis] - 1) / max(1, content - 1))
    return found


def _shares(placement: Placement, axis: int, pixels: Numbers) -> Numbers:
    """The inverse of `_pixels`."""
    content, network = placement.content[axis], placement.network[axis]
    inside = pixels * ((content - 1) / max(1, placement.source[axis] - 1))
    found: Numbers = (inside + (placement.top, placement.left)[axis]) / max(1, network - 1)
    return found
