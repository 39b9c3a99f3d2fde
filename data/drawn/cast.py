"""The parts of one drawn video, before anything moves."""

from __future__ import annotations

from dataclasses import dataclass

from hsnet_trt.data.drawn.render import Cutout, Floats
from hsnet_trt.data.episodes.episode import Image, Mask

LENGTH = 0.7  # share of a frame's shorter side: length at which cut-outs are drawn, about the most
_AROUND = 1.5  # size of the ground relative to a frame, because the camera moves


@dataclass(frozen=True)
class Cast:
    """The parts of a video.

    Attributes:
        class_name: name of the object's class.
        supports: other pictures of the object, uint8 [K, H, W, 3].
        support_masks: bool [K, H, W].
        target: the object, about LENGTH times a frame's shorter side long.
        others: other things of that length; some may appear more than once.
        ground: the background, float32 [h, w, 3], larger than a frame (`ground_size`).
        screen: a surface that can hide the object, float32 [H, W, 3].
    """

    class_name: str
    supports: Image
    support_masks: Mask
    target: Cutout
    others: tuple[Cutout, ...]
    ground: Floats
    screen: Floats


def ground_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the ground behind frames of `size`."""
    return int(size[0] * _AROUND), int(size[1] * _AROUND)
