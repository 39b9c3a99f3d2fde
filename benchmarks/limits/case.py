"""A benchmark's case: sizes, shots, classes, mask area, and the pictures themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import InputError
from hsnet_trt.export.graphs.lowering import Grid
from hsnet_trt.export.graphs.probe import is_stable, smooth_picture

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
VARIANTS = 3  # of every input, used in turn, so that no call repeats the previous one
_TRIES = 500
FULL = 0.999  # from this area on, the mask is the whole picture


@dataclass(frozen=True)
class Case:
    """One point of the benchmark's matrix; `area`: share of a support picture under its mask."""

    backbone: str
    size: tuple[int, int]  # height, width of the pictures and of the network's input
    shots: int = 1
    classes: int = 1
    batch: int = 1  # queries per call
    area: float = 0.2

    def __str__(self) -> str:
        height, width = self.size
        text = f"{self.backbone} {height} x {width}, {self.shots}-shot"
        if self.classes > 1:
            text += f", {self.classes} classes"
        if self.batch > 1:
            text += f", batch {self.batch}"
        return f"{text}, mask {self.area:.0%}"


@dataclass(frozen=True)
class SupportPictures:
    """The support pictures and masks of every class: [class][shot]."""

    images: list[list[Pixels]]
    masks: list[list[Mask]]


@dataclass(frozen=True)
class Inputs:
    """`VARIANTS` batches of queries and as many support sets, all of the network's size."""

    queries: list[list[Pixels]]
    supports: list[SupportPictures]


def draw_inputs(case: Case, grids: Sequence[Grid]) -> Inputs:
    """Pictures and masks; the same arguments give the same ones on every machine.

    Args:
        case: the case.
        grids: (h, w) of the feature levels. Masks avoid positions that they hardly cover, where
            rounding errors would be amplified (see `export.graphs.probe`).

    Raises:
        InputError: the area is not above 0 and at most 1.
    """
    check_area(case.area)
    rng = np.random.RandomState(0)

    def picture() -> Pixels:
        return smooth_picture(rng, case.size)

    supports = []
    for _ in range(VARIANTS):
        images, masks = [], []
        for _ in range(case.classes):
            images.append([picture() for _ in range(case.shots)])
            masks.append([draw_mask(rng, case.size, case.area, grids) for _ in range(case.shots)])
        supports.append(SupportPictures(images, masks))
    return Inputs([[picture() for _ in range(case.batch)] for _ in range(VARIANTS)], supports)


def check_area(area: float) -> None:
    """Refuse what is no share of a picture.

    Raises:
        InputError: the area is not above 0 and at most 1.
    """
    if not 0 < area <= 1:
        raise InputError("the mask area is not one", expected="above 0, at most 1", found=area)


def draw_mask(rng: np.random.RandomState, size: Grid, area: float, grids: Sequence[Grid]) -> Mask:
    """A mask inside the picture that covers `area` of it; the whole picture from `FULL` on.

    It is an ellipse up to an area of 0.6, and a rectangle above (an ellipse fills at most 78 %).
    """
    height, width = size
    if area >= FULL:
        return np.ones(size, bool)
    y, x = np.mgrid[:height, :width]
    mask = np.zeros(size, bool)
    box = area if area > 0.6 else 4 * area / math.pi  # an ellipse is 78 % of its box
    for _ in range(_TRIES):
        tall = min(1.0, math.sqrt(box) * rng.uniform(0.85, 1.15))
        tall = max(tall, box)
        ry, rx = height * tall / 2, width * box / tall / 2
        cy, cx = (
            rng.uniform(r, extent - r) if extent > 2 * r else extent / 2
            for r, extent in ((ry, height), (rx, width))
        )
        down, across = np.abs(y + 0.5 - cy) / ry, np.abs(x + 0.5 - cx) / rx
        if area > 0.6:
            mask = np.maximum(down, across) <= 1
        else:
            mask = down**2 + across**2 <= 1
        if all(is_stable(mask, grid) for grid in grids):
            break
    return mask
