"""From support images and masks to encoded supports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from numbers import Number
from typing import Any

import numpy as np
from PIL import Image

from hsnet_trt.errors import InputError, warn
from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.matching.graphs import SUPPORTS, Tensors
from hsnet_trt.runtime.matching.runner import Runner
from hsnet_trt.runtime.matching.running import run_features, run_support
from hsnet_trt.runtime.pictures.images import read_image
from hsnet_trt.runtime.pictures.masks import read_mask
from hsnet_trt.runtime.pictures.preprocess import OUTSIDE, network_input, network_mask
from hsnet_trt.runtime.pictures.sources import as_array, is_array, is_encoded
from hsnet_trt.runtime.pictures.window import crop_about

MASK = 2  # dimensions of a mask


def as_list(items: Any, what: str, one: int) -> list[Any]:
    """One item or several, as a list.

    Args:
        items: a path, a file object, a PIL image, an array, or an iterable of them.
        what: names the items in errors.
        one: dimensions of one item; an array of more dimensions holds several.

    Raises:
        InputError: `items` is none of these.
    """
    if isinstance(items, Image.Image) or is_encoded(items):
        return [items]
    if is_array(items):
        array = as_array(items, what, "a path, a PIL image, an array, or a list of them")
        return [array] if array.ndim <= one else list(array)
    if isinstance(items, Iterable):
        listed = list(items)
        return [listed] if one == MASK and _are_rows(listed) else listed
    raise InputError(
        f"{what} are neither one image nor a sequence",
        expected="a path, a PIL image, an array, or a list of them",
        found=type(items).__name__,
    )


def _are_rows(items: list[Any]) -> bool:
    """Whether a list is one plane: its first item is a row of numbers, not a picture."""
    if not items:
        return False
    first = items[0]
    if is_array(first):
        return bool(np.ndim(first) == 1)
    if not isinstance(first, (list, tuple)) or not first:
        return False
    return isinstance(first[0], (Number, np.generic))


def pair_up(name: str, images: Any, masks: Any) -> list[tuple[Any, Any]]:
    """The K shots of a class, as pairs of image and mask.

    Raises:
        InputError: the numbers of images and masks differ, or are 0.
    """
    shots = as_list(images, f"the images of {name!r}", one=3)
    if len(shots) == 1 and is_array(masks):
        planes = [masks]  # [1,H,W] and [H,W,1] are one mask too
    else:
        planes = as_list(masks, f"the masks of {name!r}", one=MASK)
    if len(shots) != len(planes) or not shots:
        raise InputError(
            f"the supports of {name!r} do not pair up",
            expected="as many masks as images, at least one of each",
            found=f"{len(shots)} images and {len(planes)} masks",
            fix="give each image its mask, in the same order",
        )
    return list(zip(shots, planes, strict=True))


def encode_shots(
    runner: Runner,
    name: str,
    shots: list[tuple[Any, Any]],
    size: tuple[int, int],
    preprocessing: Preprocessing,
) -> Tensors:
    """Encode the K shots of a class, in batches of the runner's limit.

    Returns:
        `s2`, `s3`, `s4`, each [K,L,C,row], and with a background contrast `c3`, `c4` [K,1,C,1].

    Raises and warns as `encode_parts` does.
    """
    parts = list(encode_parts(runner, name, shots, size, preprocessing))
    if len(parts) == 1:
        return parts[0]
    return {level: np.concatenate([part[level] for part in parts]) for level in parts[0]}


def encode_parts(
    runner: Runner,
    name: str,
    shots: list[tuple[Any, Any]],
    size: tuple[int, int],
    preprocessing: Preprocessing,
    color: str = "rgb",
    crop: float | None = None,
) -> Iterator[Tensors]:
    """Encode the K shots of a class in batches of the runner's limit, and yield each batch.

    `color` is the channel order of array images; `crop` crops images to their objects, see
    `FewShotSegmenter.set_support`.

    Yields:
        `s2`, `s3`, `s4`, each [k,L,C,row], and with a background contrast `c3`, `c4` [k,1,C,1], of
        the batch's k shots.

    Raises:
        InputError: an image or mask is invalid, an object vanishes at the network's size, or `crop`
            is below 1.
        BackendError: the backend failed.

    Warns:
        HSNetWarning: a mask covers its whole image, is grey like a photograph, or vanishes at a
            feature resolution.
    """
    if crop is not None and not crop >= 1:
        raise InputError(
            f"the supports of {name!r} cannot be cropped so closely",
            expected="a crop of 1 or more, in sides of the object's box",
            found=crop,
        )
    most = min(runner.limits.images, runner.limits.shots)
    for first in range(0, len(shots), most):
        pixels, masks = [], []
        for number, (image, mask) in enumerate(shots[first : first + most], first + 1):
            pixels.append(read_image(image, f"the image of shot {number} of {name!r}", color))
            shape = (pixels[-1].shape[0], pixels[-1].shape[1])
            masks.append(read_mask(mask, shape, f"the mask of shot {number} of {name!r}", image))
            if crop is not None:
                window = crop_about(masks[-1], crop)
                pixels[-1], masks[-1] = window.of(pixels[-1]), window.of(masks[-1])
        batch, placements = network_input(pixels, size, preprocessing)
        outside = OUTSIDE if runner.contrast else 0
        fitted = np.stack(
            [network_mask(m, p, outside) for m, p in zip(masks, placements, strict=True)]
        )
        for number, plane in enumerate(fitted, first + 1):
            if not (plane > 0).any():
                raise InputError(
                    f"the object of shot {number} of {name!r} is too small",
                    expected=f"at least one pixel of it left at {size[0]} x {size[1]}",
                    found="none, once the mask is resized",
                    fix="crop the support image and its mask closer to the object",
                )
        encoded = run_support(runner, run_features(runner, batch), fitted)
        for index in range(len(fitted)):
            _warn_vanished(f"the mask of shot {first + index + 1} of {name!r}", encoded, index)
        yield encoded


def _warn_vanished(what: str, encoded: Tensors, index: int) -> None:
    """Warn of levels whose masked features are all zero: the mask covers no position there."""
    levels = [level[1] for level in SUPPORTS if not encoded[level][index].any()]
    if levels:
        warn(
            f"{what} is so small that it vanishes at feature level {', '.join(levels)}: "
            "crop the support image closer to the object"
        )
