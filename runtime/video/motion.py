"""Motion between consecutive frames: dense optical flow on small grey pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import HSNetError
from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.pictures.preprocess import Floats, Placement

SIDE = 128  # of the small picture, in pixels
_BINS = 8  # per channel of the colour histogram
_CUT = 0.5  # share of pixels that change their bin at a cut; within a drawn video, at most 0.2 do
_FINEST = 1  # halvings of the picture at the flow's finest scale


def load_opencv() -> Any:
    """Import `cv2`.

    Raises:
        HSNetError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise HSNetError(
            "following a video needs OpenCV, which is not installed",
            found=error,
            fix="pip install 'hsnet-trt[video]'",
        ) from error
    return cv2


@dataclass(frozen=True)
class Small:
    """A shrunk frame: grey uint8 [128,128], and its colour histogram float32 [512]."""

    grey: npt.NDArray[np.uint8]
    colours: Floats


@dataclass(frozen=True)
class Motion:
    """Backward flow from a frame to the one before.

    Attributes:
        back: displacement from each pixel to its place in the frame before, float32 [128,128,2]
            (x, y), in pixels.
        error: absolute grey difference after warping, 0..255, float32 [128,128].
        cut: whether the colour histograms differ so much that the scene changed.
    """

    back: Floats
    error: Floats
    cut: bool


def shrink(pixels: Pixels, placement: Placement) -> Small:
    """Shrink a frame, uint8 [H,W,3] RGB, for motion estimation, placed as in the network's input.

    Raises:
        HSNetError: OpenCV is not installed.
    """
    cv2 = load_opencv()
    swapped = pixels.strides[2] < 0  # OpenCV copies a reversed view
    stored = pixels[:, :, ::-1] if swapped else pixels
    spans = []
    for start, length, whole in zip(
        (placement.top, placement.left), placement.content, placement.network, strict=True
    ):
        first = start * SIDE // whole
        spans.append(slice(first, max(first + 1, (start + length) * SIDE // whole)))
    rows, columns = spans
    size = (columns.stop - columns.start, rows.stop - rows.start)
    small = np.zeros((SIDE, SIDE, 3), np.uint8)
    small[rows, columns] = cv2.resize(stored, size, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY if swapped else cv2.COLOR_RGB2GRAY)
    bins = (small[::2, ::2] // (256 // _BINS)).astype(np.int64) @ [_BINS * _BINS, _BINS, 1]
    counts = np.bincount(bins.ravel(), minlength=_BINS**3)
    return Small(grey, (counts / bins.size).astype(np.float32))


class MotionFinder:
    """Finds the motion between consecutive frames: DIS optical flow (OpenCV).

    The flow starts from the previous one, warped along itself. It gets no variational refinement,
    which costs more than a finer scale and smears motion over object edges.
    """

    def __init__(self) -> None:
        cv2 = load_opencv()
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._flow.setFinestScale(_FINEST)
        self._flow.setVariationalRefinementIterations(0)
        self._before: Small | None = None
        self._last: Floats | None = None  # the latest flow
        rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
        self._place = np.stack([columns, rows], axis=2)

    def is_cut(self, frame: Small) -> bool:
        """Whether the scene changed between the last frame and this one."""
        before = self._before
        return before is not None and float(np.abs(frame.colours - before.colours).sum()) / 2 > _CUT

    def find(self, frame: Small) -> Motion | None:
        """The motion since the frame before, and whether there was a cut; None for the first."""
        cv2 = load_opencv()
        cut = self.is_cut(frame)
        before, self._before = self._before, frame
        if before is None:
            return None
        if cut:
            self._last = None
        likely = None if self._last is None else self._moved(self._last, self._last)
        back = self._last = self._flow.calc(frame.grey, before.grey, likely)
        was = cv2.remap(
            before.grey, self._place + back, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
        error = cv2.absdiff(was, frame.grey).astype(np.float32)
        return Motion(back, error, cut)

    def _moved(self, what: Floats, back: Floats) -> Floats:
        """Sample `what`, of the frame before, where `back` points to."""
        cv2, places = load_opencv(), self._place + back
        found: Floats = cv2.remap(
            what, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return found
