"""One picture of several segmentations, a row each: support with mask, query, prediction, score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hsnet_trt.data.episodes.episode import Image, Mask
from hsnet_trt.runtime.pictures.overlay import draw_overlay
from hsnet_trt.runtime.pictures.result import Segmentation


@dataclass(frozen=True)
class Row:
    """One query and its support.

    Attributes:
        support: uint8 [H,W,3], and its mask, bool [H,W].
        query: uint8 [h,w,3].
        truth: the mask that a person made of it, bool [h,w].
        result: what `segment` returned for it; its first class is shown.
    """

    support: Image
    support_mask: Mask
    query: Image
    truth: Mask
    result: Segmentation

    @property
    def overlap(self) -> float:
        """Intersection over union of the answer and the truth, 0..1."""
        found = self.result.masks[self.result.classes[0]]
        return float((found & self.truth).sum() / (found | self.truth).sum())


def draw_demo(path: Path, rows: Sequence[Row], caption: str) -> Path:
    """Write the picture.

    Args:
        path: where to; PNG.
        rows: one or more.
        caption: a line below the pictures.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 2.9 * len(rows) + 0.4), layout="constrained")
    grid = figure.subplots(len(rows), 4, squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        name = row.result.classes[0]
        given = Segmentation(
            masks={name: row.support_mask},
            scores={name: row.support_mask.astype(np.float32)},
            labels=row.support_mask.astype(np.uint8),
            classes=(name,),
            timing={},
        )
        panels = (
            (f"support: {name}, with its mask", draw_overlay(row.support, given)),
            ("query", row.query),
            (f"prediction: IoU {100 * row.overlap:.0f} %", draw_overlay(row.query, row.result)),
        )
        for axis, (title, picture) in zip(axes, panels, strict=False):
            axis.imshow(picture)
            axis.set_title(title, fontsize=10)
        score = axes[3].imshow(row.result.scores[name], cmap="magma", vmin=0, vmax=1)
        axes[3].set_title("score", fontsize=10)
        figure.colorbar(score, ax=axes[3], fraction=0.032)
        for axis in axes:
            axis.set_axis_off()
    figure.supxlabel(caption, fontsize=9, color="0.35")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    return path
