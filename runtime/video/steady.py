"""Logits averaged over time along the motion, and a threshold with hysteresis."""

from __future__ import annotations

import numpy as np

from hsnet_trt.runtime.pictures.preprocess import Floats
from hsnet_trt.runtime.video.motion import SIDE, Motion, load_opencv

# Chosen on drawn videos of the validation classes: see docs/video.md.
_FADES = 0.07  # share of its weight that the average loses per frame, where the flow fits
_TRUST = 15.0  # warping error, in grey levels, from which the past has no weight
_REACH = 6.0  # logits are clipped to +-6, so that one frame cannot outweigh many
_NOWHERE = -99.0  # marks positions that come from outside the frame
_NONE = 1e-6  # smallest divisor of a weight
_HOLD = 0.5  # logit: foreground stays down to -0.5, background needs +0.5
_PEAK = 0.7  # logit, a softmax of two thirds: a part whose peak is lower is not shown
_BEHIND = 2.0  # logit: nor is a part whose peak is so far below the highest of its class


class Steady:
    """The running average of one class's planes; single frames are not kept.

    Weights fade in every frame, also where a position was not matched. So a new plane has more
    weight at positions that are matched rarely.
    """

    def __init__(self) -> None:
        self._mean: Floats | None = None
        self._weight: Floats | None = None  # of the mean, in frames
        self._shown: Floats | None = None

    def forget(self) -> None:
        """Drop the average."""
        self._mean = self._weight = self._shown = None

    def add(self, plane: Floats, motion: Motion | None, counts: Floats | None = None) -> Floats:
        """Average a plane with those before.

        Args:
            plane: logit 1 - logit 0 at decoder resolution, float32 [h,w].
            motion: since the last plane; None, or a cut, starts a new average.
            counts: the weight of each position of the plane, float32 [h,w] in [0,1]; None for 1.

        Returns:
            The plane to show, float32 [h,w], foreground where it is above 0.
        """
        latest = np.clip(plane, -_REACH, _REACH)
        weight = np.ones_like(latest) if counts is None else counts
        cv2 = load_opencv()
        mean, looks, shown = self._mean, self._weight, self._shown
        if mean is None or looks is None or shown is None or motion is None or motion.cut:
            self._mean, self._weight, self._shown = latest, weight, _without_weak_parts(latest)
            return self._shown
        height, width = plane.shape
        # Decoder positions and the small picture's pixels both span the network's input.
        scale = np.array([(width - 1) / (SIDE - 1), (height - 1) / (SIDE - 1)], np.float32)
        back = cv2.resize(motion.back * scale, (width, height), interpolation=cv2.INTER_LINEAR)
        rows, columns = np.mgrid[:height, :width]
        origin = (back + np.stack([columns, rows], axis=2)).astype(np.float32)
        error = cv2.resize(motion.error, (width, height), interpolation=cv2.INTER_AREA)
        moved = _along(mean, origin)
        known = np.maximum(_along(looks, origin), 0)
        past = np.clip(1 - error / _TRUST, 0, 1) * (1 - _FADES) * known
        past[moved < -_REACH - 1] = 0  # it was outside the frame
        moved = np.maximum(moved, -_REACH)
        self._weight = past + weight
        share = weight / np.maximum(self._weight, _NONE)
        self._mean = moved + share * (latest - moved)
        before = _along(shown, origin)
        held = self._mean + np.where(before > 0, _HOLD, -_HOLD).astype(np.float32)
        self._shown = _without_weak_parts(held)
        return self._shown


def _without_weak_parts(plane: Floats) -> Floats:
    cv2 = load_opencv()
    count, parts = cv2.connectedComponents((plane > 0).astype(np.uint8), connectivity=4)
    peaks = np.full(count, -np.inf, np.float32)
    np.maximum.at(peaks, parts.ravel(), plane.ravel())
    weak = (parts > 0) & (peaks < max(_PEAK, peaks.max() - _BEHIND))[parts]
    return np.where(weak, -plane, plane)


def _along(plane: Floats, origin: Floats) -> Floats:
    cv2 = load_opencv()
    moved = cv2.remap(
        plane,
        origin,
        None,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_NOWHERE,
    )
    return np.asarray(moved, np.float32)
