"""How the kind of support mask affects the result: drawn, GrabCut from box or scribble, the box.

    python -m hsnet_trt.benchmarks.accuracy.support_masks BUNDLE

Each photograph of `cli/demo_photographs` is the support for all others of its class.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hsnet_trt.data.labels.grabcut import Box, mask_from_box, mask_from_scribble
from hsnet_trt.errors import InputError
from hsnet_trt.runtime.pictures.images import read_image
from hsnet_trt.runtime.pictures.masks import read_mask
from hsnet_trt.runtime.segmenter import FewShotSegmenter

PHOTOGRAPHS = Path(__file__).parents[2] / "cli" / "demo_photographs"
Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def box_of(mask: Mask, wider: float = 0.0) -> Box:
    """The box of a mask, widened on each side by `wider` times its longer side.

    A widened box stays at least a pixel inside the image, so that some background is outside it.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    if wider:
        more = max(1, round(wider * max(bottom - top, right - left)))
        top, left = max(1, top - more), max(1, left - more)
        bottom, right = min(mask.shape[0] - 1, bottom + more), min(mask.shape[1] - 1, right + more)
    return int(left), int(top), int(right - left), int(bottom - top)


def cross(mask: Mask) -> Mask:
    """A horizontal and a vertical stroke through the object's thickest point, where it is thick."""
    import cv2

    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    thick = depth >= min(3.0, float(depth.max()) / 2)
    stroke = np.zeros_like(mask)
    for line, place in ((np.s_[row, :], int(column)), (np.s_[:, column], int(row))):
        breaks = np.flatnonzero(~thick[line])
        before, after = breaks[breaks < place], breaks[breaks > place]
        start = int(before[-1]) + 1 if len(before) else 0
        end = int(after[0]) if len(after) else len(thick[line])
        stroke[line][start:end] = True
    return np.asarray(cv2.dilate(stroke.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & mask


def below(mask: Mask) -> Mask:
    """A stroke below the object, of the same width."""
    left, top, width, height = box_of(mask)
    row = min(mask.shape[0] - 1, top + height + max(3, round(0.04 * max(width, height))))
    stroke = np.zeros_like(mask)
    stroke[row, left : left + width] = True
    return stroke & ~mask


def filled(mask: Mask) -> Mask:
    """The box itself as a mask."""
    left, top, width, height = box_of(mask)
    box = np.zeros_like(mask)
    box[top : top + height, left : left + width] = True
    return box


KINDS: dict[str, Callable[[Image, Mask], Mask]] = {
    "drawn": lambda image, mask: mask,
    "GrabCut, tight box": lambda image, mask: mask_from_box(image, box_of(mask)),
    "GrabCut, box 5 % wider": lambda image, mask: mask_from_box(image, box_of(mask, 0.05)),
    "GrabCut, a cross": lambda image, mask: mask_from_scribble(image, cross(mask)),
    "GrabCut, a cross, and a stroke below": lambda image, mask: mask_from_scribble(
        image, cross(mask), below(mask)
    ),
    "the tight box itself": lambda image, mask: filled(mask),
}


def iou(one: Mask, other: Mask) -> float:
    """Intersection over union, 0..1."""
    return float((one & other).sum() / max(1, (one | other).sum()))


def measure(segmenter: FewShotSegmenter) -> dict[str, tuple[float, float, float]]:
    """Measure how well each kind of mask agrees with the drawn one, and how well it segments.

    Returns:
        for each kind: mean and median IoU of the support masks with the drawn ones, and the mean
        over classes of the queries' mean IoU; all 0..1.
    """
    photographs: dict[str, list[tuple[Image, Mask]]] = {}
    for path in sorted(PHOTOGRAPHS.glob("*/*.jpg")):
        image = read_image(path)
        mask = read_mask(path.with_suffix(".png"), image.shape[:2])
        photographs.setdefault(path.parent.name, []).append((image, mask))
    agreement: dict[str, list[float]] = {kind: [] for kind in KINDS}
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}  # by class
    for shown in photographs.values():
        answers: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for one, (image, truth) in enumerate(shown):
            for kind, make in KINDS.items():
                mask = make(image, truth)
                agreement[kind].append(iou(mask, truth))
                segmenter.set_support(kind, image, mask)
            for query, drawn in (pair for other, pair in enumerate(shown) if other != one):
                masks = segmenter.segment(query).masks
                for kind, ious in answers.items():
                    ious.append(iou(masks[kind], drawn))
        for kind, ious in answers.items():
            found[kind].append(float(np.mean(ious)))
    return {
        kind: (float(np.mean(ious)), float(np.median(ious)), float(np.mean(found[kind])))
        for kind, ious in agreement.items()
    }


def main() -> None:
    """Measure with the bundle named on the command line, and print a Markdown table."""
    if len(sys.argv) != 2:
        raise InputError("which bundle?", expected="python -m ... BUNDLE", found=sys.argv[1:])
    with FewShotSegmenter.load(sys.argv[1]) as segmenter:
        print("| support mask | IoU with the drawn one: mean | median | mIoU of the queries |")
        print("|---|---|---|---|")
        for kind, figures in measure(segmenter).items():
            print(f"| {kind} | {' | '.join(f'{figure:.3f}' for figure in figures)} |")


if __name__ == "__main__":
    main()
