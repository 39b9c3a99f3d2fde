"""One picture of a segmentation: support with its mask, query, prediction, score map."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hsnet_trt.runtime.images import Pixels
from hsnet_trt.runtime.overlay import draw_overlay
from hsnet_trt.runtime.result import Segmentation


def draw_demo(
    path: Path,
    support: Pixels,
    support_mask: np.ndarray,
    query: Pixels,
    result: Segmentation,
    caption: str,
) -> Path:
    """Write the picture, of the first class of the result.

    Args:
        path: where to; PNG.
        support: uint8 [H,W,3].
        support_mask: bool [H,W].
        query: uint8 [h,w,3].
        result: what `segment` gave for the query.
        caption: a line below the pictures.
    """
    from matplotlib.figure import Figure

    name = result.classes[0]
    given = Segmentation(
        masks={name: support_mask},
        scores={name: support_mask.astype(np.float32)},
        labels=support_mask.astype(np.uint8),
        classes=(name,),
        timing={},
    )
    figure = Figure(figsize=(15, 3.1), layout="constrained")
    axes = figure.subplots(1, 4)
    panels = (
        (f"support: {name}, with its mask", draw_overlay(support, given)),
        ("query", query),
        ("prediction", draw_overlay(query, result)),
    )
    for axis, (title, picture) in zip(axes, panels, strict=False):
        axis.imshow(picture)
        axis.set_title(title, fontsize=11)
    low, high = np.percentile(result.scores[name], (1, 99))
    image = axes[3].imshow(result.scores[name], cmap="magma", vmin=low, vmax=high)
    axes[3].set_title("score", fontsize=11)
    figure.colorbar(image, ax=axes[3], fraction=0.032)
    for axis in axes:
        axis.set_axis_off()
    figure.supxlabel(caption, fontsize=9, color="0.35")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
