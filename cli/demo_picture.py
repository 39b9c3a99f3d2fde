"""One picture of a segmentation: support with its mask, query, prediction, score map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_GREEN = np.array([40, 220, 110], np.float32)


def draw(
    path: Path,
    support: Any,
    support_mask: Path,
    query: Any,
    mask: np.ndarray,
    score: np.ndarray,
    caption: str,
) -> Path:
    """Write the picture.

    Args:
        path: where to; PNG.
        support: uint8 [H,W,3].
        support_mask: file of its mask.
        query: uint8 [h,w,3].
        mask: what was predicted, bool [h,w].
        score: float32 [h,w] in [0,1].
        caption: a line below the pictures.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 3.6), layout="constrained")
    axes = figure.subplots(1, 4)
    given = np.asarray(Image.open(support_mask).convert("1"))
    panels = (
        ("support, with its mask", overlay(support, given)),
        ("query", np.asarray(query)),
        ("prediction", overlay(query, mask)),
    )
    for axis, (title, picture) in zip(axes, panels, strict=False):
        axis.imshow(picture)
        axis.set_title(title)
    image = axes[3].imshow(score, cmap="magma", vmin=0, vmax=1)
    axes[3].set_title("score")
    figure.colorbar(image, ax=axes[3], fraction=0.035)
    for axis in axes:
        axis.set_axis_off()
    figure.supxlabel(caption, fontsize=10, color="0.35")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def overlay(image: Any, mask: np.ndarray) -> np.ndarray:
    """The image uint8 [H,W,3] with the mask [H,W] in green and everything else greyed a little."""
    pixels = np.asarray(image, np.float32)
    grey = pixels.mean(axis=2, keepdims=True)
    shown = np.where(mask[..., None], 0.55 * pixels + 0.45 * _GREEN, 0.6 * grey + 0.2 * pixels)
    edge = mask ^ _eroded(mask)
    shown[edge] = _GREEN
    return shown.clip(0, 255).astype(np.uint8)


def _eroded(mask: np.ndarray) -> np.ndarray:
    inner = mask.copy()
    for axis in (0, 1):
        for shift in (1, -1):
            inner &= np.roll(mask, shift, axis)
    return inner
