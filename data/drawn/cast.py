"""What one drawn video is made of, before anything moves."""

from __future__ import annotations

from dataclasses import dataclass

from hsnet_trt.data.drawn.render import Cutout, Floats
from hsnet_trt.data.episodes.episode import Image, Mask

LENGTH = 0.7  # of a frame's shorter side, about the longest that a cut-out is shown
_AROUND = 1.5  # so much larger than a frame the ground is, since the camera moves


@dataclass(frozen=True)
class Cast:
    """The parts of a video.

    Attributes:
        class_name: what the object is called.
        supports: the object elsewhere, uint8 [K, H, W, 3].
        support_masks: bool [K, H, W].
        target: the object, LENGTH of a frame's shorter side long or so.
        others: things that are not the object, as long; some may be shown more than once.
        ground: what is behind them all, float32 [h, w, 3], larger than a frame (`ground_size`).
        screen: what can hide the object, float32 [H, W, 3].
    """

    class_name: str
    supports: Image
    support_masks: Mask
    target: Cutout
    others: tuple[Cutout, ...]
    ground: Floats
    screen: Floats


def ground_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the ground behind frames of a size."""
    return int(size[0] * _AROUND), int(size[1] * _AROUND)
