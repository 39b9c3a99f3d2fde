"""A mask from a box or a scribble: GrabCut (Rother et al., 2004), as OpenCV implements it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.data.episodes.episode import Image, Mask
from hsnet_trt.errors import HSNetError, InputError

Labels = npt.NDArray[np.uint8]  # [H,W] of cv2.GC_*
Models = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
Box = tuple[int, int, int, int]

# Larger pictures are scaled down to this many pixels, and the mask back up: it takes a quarter of a
# second instead of minutes, loose boxes give better masks, and the network sees no more anyway.
_PIXELS = 320 * 320
_MARGIN = 1.0  # margin around the box that is looked at, relative to the box's sides
_ROUNDS = 5


def mask_from_box(image: Image, box: Box) -> Mask:
    """Cut out the object inside a box; everything outside the box is background.

    Args:
        image: uint8 [H,W,3], RGB.
        box: x, y of its top left corner, width and height, in pixels of the image.

    Returns:
        bool [H,W], True on the object; deterministic.

    Raises:
        InputError: the box is empty, not inside the picture, or all of it; or no object stands out
            in it.
        HSNetError: OpenCV is not installed.
    """
    height, width = _check_image(image)
    x, y, w, h = (int(value) for value in box)
    found = f"{x},{y},{w},{h} in a picture of {width} x {height} (width x height)"
    if w < 1 or h < 1:
        raise InputError("the box is empty", expected="x,y,width,height", found=found)
    if x < 0 or y < 0 or x + w > width or y + h > height:
        raise InputError(
            "the box is not inside the picture",
            expected="x,y,width,height in pixels, from the picture's top left corner",
            found=found,
            fix="the last two numbers are width and height, not the lower right corner",
        )
    if (w, h) == (width, height):
        raise InputError(
            "the box is the whole picture: nothing distinguishes the object from its background",
            expected="a box with some background outside it",
            found=found,
            fix="draw it closer to the object, or scribble on the object",
        )
    inside = np.zeros((height, width), np.bool_)
    inside[y : y + h, x : x + w] = True
    cv2 = _opencv()
    part = _around(y, h, height), _around(x, w, width)
    small = _Small.of(image[part])
    labels = np.where(small.shrink(~inside[part]), cv2.GC_BGD, cv2.GC_PR_FGD).astype(np.uint8)
    cut = _cut(small.image, labels, _no_models(), _ROUNDS, cv2.GC_INIT_WITH_MASK)
    mask = np.zeros_like(inside)
    mask[part] = small.grow(cut) & inside[part]
    return _not_empty(mask, found)


def mask_from_scribble(image: Image, foreground: Mask, background: Mask | None = None) -> Mask:
    """Cut out the object that strokes were drawn on.

    Args:
        image: uint8 [H,W,3], RGB.
        foreground: bool [H,W], True on strokes on the object.
        background: bool [H,W], True on strokes beside it, in addition to the picture's edge, which
            counts as background. A pixel that is True in both counts in neither.

    Returns:
        bool [H,W], True on the object; deterministic.

    Raises:
        InputError: a scribble has another size or type, there is none on the object, no pixel is
            unmarked, or no object stands out.
        HSNetError: OpenCV is not installed.
    """
    size = _check_image(image)
    beside = np.zeros(size, np.bool_) if background is None else background
    for what, strokes in (("foreground", foreground), ("background", beside)):
        if strokes.shape != size or strokes.dtype != np.bool_:
            raise InputError(
                f"the {what} scribble is not of the picture's size",
                expected=f"bool {list(size)}",
                found=f"{strokes.dtype} {list(strokes.shape)}",
            )
    on = foreground & ~beside
    if not on.any():
        raise InputError(
            "there is no scribble on the object",
            expected="a stroke on the object, and better still others beside it",
            found=f"{int(foreground.sum())} pixels marked as the object, "
            f"{int((foreground & beside).sum())} of them as background, too",
        )
    if (on | beside).all():
        raise InputError(
            "the scribble marks every pixel: there is nothing left to find",
            expected="strokes on the object, strokes beside it, and the rest unmarked",
            fix="leave the rest unmarked; or give it as a mask",
        )
    cv2 = _opencv()
    small = _Small.of(image)
    beside = beside & ~foreground
    on, off = small.shrink(on), small.shrink(beside)
    off &= ~on
    # A stroke beside the object shows one part of its background, the picture's edge most others.
    learnt = (off | _frame(off.shape)) & ~on
    # Learn the colours from the strokes first, without the unmarked pixels: if those start as
    # background, GrabCut loses most of an object that the strokes hardly cover.
    strip = np.concatenate([small.image[on], small.image[learnt]])[None]
    known = np.repeat([cv2.GC_FGD, cv2.GC_BGD], [on.sum(), learnt.sum()])[None].astype(np.uint8)
    models = _no_models()
    _cut(strip, known, models, 0, cv2.GC_INIT_WITH_MASK)
    labels = np.full(on.shape, cv2.GC_PR_BGD, np.uint8)
    labels[off], labels[on] = cv2.GC_BGD, cv2.GC_FGD
    _cut(small.image, labels, models, 1, cv2.GC_EVAL_FREEZE_MODEL)
    cut = _cut(small.image, labels, models, _ROUNDS, cv2.GC_EVAL)
    return _not_empty(small.grow(cut), "the scribble")


def _check_image(image: Image) -> tuple[int, int]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise InputError(
            "the picture is not one to cut an object out of",
            expected="uint8 [H,W,3] RGB",
            found=f"{image.dtype} {list(image.shape)}",
        )
    return image.shape[0], image.shape[1]


def _no_models() -> Models:
    return np.zeros((1, 65)), np.zeros((1, 65))  # colour models of background and object


def _frame(shape: tuple[int, ...]) -> Mask:
    """The outermost pixels, which are mostly background."""
    frame = np.ones(shape, np.bool_)
    frame[1:-1, 1:-1] = False
    return frame


def _around(start: int, length: int, whole: int) -> slice:
    """The box and a margin along one axis; distant background says little about the near one."""
    margin = max(8, round(_MARGIN * length))
    return slice(max(0, start - margin), min(whole, start + length + margin))


@dataclass(frozen=True)
class _Small:
    """The picture at the size at which it is cut.

    Attributes:
        image: uint8 [h,w,3], BGR.
        size: its (width, height).
        whole: (width, height) of the original picture.
    """

    image: Image
    size: tuple[int, int]
    whole: tuple[int, int]

    @classmethod
    def of(cls, image: Image) -> _Small:
        height, width = image.shape[:2]
        scale = min(1.0, (_PIXELS / (height * width)) ** 0.5)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        bgr = np.ascontiguousarray(image[:, :, ::-1])
        small = _opencv().resize(bgr, size, interpolation=_opencv().INTER_AREA)
        return cls(small, size, (width, height))

    def shrink(self, mask: Mask) -> Mask:
        """The mask at the small size; strokes thinner than a pixel are kept."""
        values = mask.astype(np.float32)
        return np.asarray(
            _opencv().resize(values, self.size, interpolation=_opencv().INTER_AREA) > 0
        )

    def grow(self, mask: Mask) -> Mask:
        values = mask.astype(np.float32)
        return np.asarray(_opencv().resize(values, self.whole) >= 0.5)


def _cut(small: Image, labels: Labels, models: Models, rounds: int, mode: int) -> Mask:
    """Run cv2.grabCut, which updates the labels and models in place; True on the object."""
    cv2 = _opencv()
    cv2.setRNGSeed(0)  # its clustering starts at random
    try:
        cv2.grabCut(small, labels, None, *models, rounds, mode)
    except cv2.error as error:
        raise InputError(
            "the object cannot be distinguished from its background",
            expected="some pixels of either",
            found=str(error).strip(),
            fix="mark more of it",
        ) from error
    return np.asarray(np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)))


def _not_empty(mask: Mask, found: str) -> Mask:
    if not mask.any():
        raise InputError(
            "no object was found: nothing there differs from the background in colour",
            found=found,
            fix="scribble on the object and beside it, or give a mask",
        )
    return mask


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise HSNetError(
            "masks from a box or a scribble need OpenCV, which is not installed",
            found=error,
            fix="pip install 'hsnet-trt[labels]'",
        ) from error
    return cv2
