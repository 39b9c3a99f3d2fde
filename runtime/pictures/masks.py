"""Support masks in common forms -> bool [H,W], True on the object."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from hsnet_trt.errors import InputError, warn
from hsnet_trt.runtime.pictures.images import check_open, open_image, stored_orientation
from hsnet_trt.runtime.pictures.orientation import mask_fix, turns_sides, upright
from hsnet_trt.runtime.pictures.sources import ImageSource, as_array, is_encoded

MaskSource: TypeAlias = ImageSource
Mask: TypeAlias = "npt.NDArray[np.bool_]"

_EXPECTED = "one plane [H,W] of bool, 0/1, 0/255, or floats in [0,1]"
_MOST_GREY = 0.1  # of a mask's pixels
_SPLIT = "choose one: masks=[label_map == label]"


def read_mask(
    source: MaskSource,
    shape: tuple[int, int],
    what: str = "the support mask",
    image: ImageSource | None = None,
    *,
    turned: int | None = None,
) -> Mask:
    """Read a mask of the size of its image.

    Object pixels are: True; 1 in a mask of 0 and 1; 255 in one of 0 and 255; the value beside 0 if
    there is only one; grey levels from 128 up (soft edges); floats from 0.5 up. A PNG may be grey,
    a palette of labels, or a cut-out, whose alpha channel is the mask.

    Args:
        source: a path, the content of an image file, a file object, a PIL image, or an array (or
            nested list) [H,W], [H,W,1], [1,H,W] or grey [H,W,3] of bool, integers from 0 up, floats
            in [0,1], or floats that are whole numbers.
        shape: height and width of the image that the mask belongs to.
        what: names the mask in errors.
        image: the image, from which an error about the size tells whether EXIF rotates it.
        turned: the image's EXIF orientation (1 to 8), if the image is no longer available.

    Returns:
        bool [H,W].

    Raises:
        InputError: not such a mask, not of its image's size, empty, or of several labels.

    Warns:
        HSNetWarning: the mask covers the whole image, or more than a tenth of it is grey.
    """
    if is_encoded(source):
        with open_image(source, what) as opened:
            levels = _levels(opened, what)
    elif isinstance(source, Image.Image):
        check_open(source, what)
        levels = _levels(source, what)
    else:
        levels = _plane(as_array(source, what, _EXPECTED), what)
    if levels.shape != tuple(shape):
        if turned is None:
            turned = 1 if image is None else _orientation(image)
        if levels.shape == tuple(shape)[::-1] and turns_sides(turned):
            raise InputError(
                f"{what} is of its image as stored, but its EXIF turns that image",
                expected=f"{shape[0]} x {shape[1]} (height x width, turned)",
                found=f"{levels.shape[0]} x {levels.shape[1]}",
                fix=f"turn the mask as the image: {mask_fix(turned)}",
            )
        raise InputError(
            f"{what} is not of its image's size",
            expected=f"{shape[0]} x {shape[1]} (height x width, after any EXIF rotation)",
            found=f"{levels.shape[0]} x {levels.shape[1]}",
            fix="give each mask at the size of its own image, in the same order as the images",
        )
    mask = _binary(levels, what)
    if not mask.any():
        raise InputError(
            f"{what} is empty",
            expected="at least one pixel of the object",
            found="nothing but background",
            fix="give a mask that is True (or 1, or 255) on the object",
        )
    if mask.all():
        warn(f"{what} covers its whole image: nothing tells the object from its background")
    return mask


def _orientation(image: ImageSource) -> int:
    try:
        return stored_orientation(image)
    except InputError:  # a stream that cannot be read twice
        return 1


def _levels(image: Image.Image, what: str) -> npt.NDArray[Any]:
    """One plane of values: palette labels, grey levels, or a cut-out's alpha channel."""
    lossy = image.format in ("JPEG", "MPO")  # lossy values cannot be labels
    image = upright(image)
    if lossy:
        grey = np.asarray(image.convert("L"))
        _warn_of_photograph(grey, what)
        return grey >= 128
    if image.mode in ("P", "PA"):
        palette = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        indexes = np.asarray(image if image.mode == "P" else image.getchannel("P"))
        used = palette[np.unique(indexes[indexes < len(palette)])]
        # A palette of greys is a picture of a mask; in one of colours, the indices are labels.
        return np.asarray(image.convert("L")) if len(used) > 1 and _is_grey(used) else indexes
    if image.mode in ("RGBA", "LA"):
        alpha = np.asarray(image.getchannel("A"))
        if alpha.min() != alpha.max():
            return alpha
        image = image.convert("RGB")
    return _plane(np.asarray(image), what)


def _plane(array: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    if array.ndim == 3 and array.shape[2] == 3 and _is_grey(array):
        array = array[:, :, 0]
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[0] if array.shape[0] == 1 else array[:, :, 0]
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "biuf":
        raise InputError(
            f"{what} is not a mask",
            expected=_EXPECTED,
            found=f"{array.dtype} {list(array.shape)}",
            fix=_SPLIT if array.ndim == 3 else "give one mask an image",
        )
    return array


def _binary(levels: npt.NDArray[Any], what: str) -> Mask:
    if levels.dtype == np.bool_:
        return levels
    least, most = levels.min(), levels.max()
    if levels.dtype.kind == "f" and least >= 0 and most <= 1:
        return np.asarray(levels >= 0.5)
    whole = levels.dtype.kind != "f" or bool(
        np.isfinite(levels).all() and (levels == np.rint(levels)).all()
    )
    if not whole or least < 0:
        raise InputError(
            f"{what} is not a mask",
            expected="bool, 0/1, 0/255, or floats in [0,1]",
            found=f"{levels.dtype} from {least:g} to {most:g}",
            fix="threshold it: masks=[values > threshold]",
        )
    values = np.unique(levels)
    values = values[values > 0]
    if len(values) <= 1:
        return np.asarray(levels > 0)
    # Soft edges reach 255; label maps are small numbers, perhaps with 255 for "ignore".
    labels = values[values < 255]
    if most != 255 or labels.max() <= 32:
        raise InputError(
            f"{what} holds several labels",
            expected="one object against background",
            found="the values " + ", ".join(f"{v:g}" for v in values[:8]),
            fix=_SPLIT,
        )
    _warn_of_photograph(levels, what)
    return np.asarray(levels >= 128)


def _warn_of_photograph(levels: npt.NDArray[Any], what: str) -> None:
    """Warn if more than a tenth of the pixels is grey: a mask is grey only at its edges."""
    share = float(((levels >= 64) & (levels < 192)).mean())
    if share > _MOST_GREY:
        warn(
            f"{what} looks like a photograph: {100 * share:.0f} % of its pixels are neither black "
            "nor white; is it the image, in place of the mask?"
        )


def _is_grey(colours: npt.NDArray[Any]) -> bool:
    return bool(
        (colours[..., 0] == colours[..., 1]).all() and (colours[..., 0] == colours[..., 2]).all()
    )
