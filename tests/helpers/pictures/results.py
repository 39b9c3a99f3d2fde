"""A result with classes that overlap and one that was not found."""

from __future__ import annotations

import numpy as np

from hsnet_trt import Segmentation


def result(*, scores: bool = True) -> Segmentation:
    """Two classes that overlap, and between them one that was not found; 40 x 60."""
    masks = {name: np.zeros((40, 60), bool) for name in ("mug", "spoon", "cup")}
    masks["mug"][3:20, 5:31] = True
    masks["mug"][10, 40] = True
    masks["cup"][39:, 59:] = True
    maps = {name: np.full((40, 60), k / 4, np.float32) for k, name in enumerate(masks, start=1)}
    maps["mug"][10, 40] = 1
    return Segmentation(
        masks, maps if scores else {}, np.zeros((40, 60), np.uint8), tuple(masks), {}
    )
