"""From photographs and masks to the network's input, and the photographs' placement in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from hsnet_trt.errors import BundleError
from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.pictures.masks import Mask

Floats = npt.NDArray[np.float32]
OUTSIDE = -1  # value of mask pixels that are neither object nor background


@dataclass(frozen=True)
class Placement:
    """Where a photograph is in the network's input. All sizes are height, width in pixels."""

    source: tuple[int, int]  # the photograph
    network: tuple[int, int]  # the network's input
    top: int
    left: int
    content: tuple[int, int]  # the photograph, resized


def place(source: tuple[int, int], network: tuple[int, int], policy: str) -> Placement:
    """Decide where a photograph goes in the network's input.

    Args:
        source: height and width of the photograph.
        network: height and width of the network's input.
        policy: "stretch" fills the input and ignores the aspect ratio (as the authors do);
            "letterbox" keeps the aspect ratio, centred between margins of the mean colour.

    Raises:
        BundleError: no such policy.
    """
    if policy == "stretch":
        return Placement(source, network, 0, 0, network)
    if policy != "letterbox":
        raise BundleError(
            "the bundle asks for an unknown resize policy",
            expected="stretch or letterbox",
            found=policy,
            fix="upgrade hsnet-trt",
        )
    scale = min(network[0] / source[0], network[1] / source[1])
    height, width = (min(n, max(1, round(s * scale))) for s, n in zip(source, network, strict=True))
    return Placement(
        source, network, (network[0] - height) // 2, (network[1] - width) // 2, (height, width)
    )


def resize_image(image: Pixels, placement: Placement) -> Pixels:
    """Resize a photograph to its size in the network's input: uint8 [h,w,3], Pillow's bilinear.

    Columns before rows, as on the GPU. Left to itself, Pillow from 13 on begins a tall picture with
    its rows, and rounding makes 14 to 25 % of the values another grey level.
    """
    height, width = placement.content
    if image.shape[:2] == (height, width):
        return image
    if image.strides[2] < 0:  # a BGR view: reversing the channels of the small picture is cheaper
        return resize_image(image[:, :, ::-1], placement)[:, :, ::-1]
    picture = Image.fromarray(image)
    for size in ((width, picture.height), (width, height)):
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture)


def network_input(
    images: Sequence[Pixels], network: tuple[int, int], preprocessing: Preprocessing
) -> tuple[Floats, list[Placement]]:
    """Resize and normalise photographs.

    Args:
        images: N photographs, uint8 [H,W,3] RGB, of any sizes.
        network: height and width of the network's input.
        preprocessing: the bundle's normalisation and resize policy.

    Returns:
        float32 [N,3,H,W], `(x / 255 - mean) / std`, and where each photograph is in it.

    Raises:
        BundleError: the resize policy is unknown.
    """
    placements = [place((i.shape[0], i.shape[1]), network, preprocessing.resize) for i in images]
    batch = np.zeros((len(images), 3, *network), np.float32)  # 0 is the mean colour
    for slot, image, placement in zip(batch, images, placements, strict=True):
        rows, columns = _content(placement)
        slot[:, rows, columns] = normalise(resize_image(image, placement), preprocessing)
    return batch, placements


def normalise(image: Pixels, preprocessing: Preprocessing) -> Floats:
    """uint8 [H,W,3] -> float32 [3,H,W], `(x / 255 - mean) / std`."""
    scale, shift = normalisation(preprocessing)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    planes *= scale[:, None, None]
    planes += shift[:, None, None]
    return planes


def normalisation(preprocessing: Preprocessing) -> tuple[Floats, Floats]:
    """Scale and shift, float32 [3] each, of `value * scale + shift` for values in 0..255.

    One multiplication and one addition per value; within 1e-6 of `(x / 255 - mean) / std`.
    """
    std = np.asarray(preprocessing.std, np.float64)
    scale = (1 / (255 * std)).astype(np.float32)
    return scale, (-np.asarray(preprocessing.mean, np.float64) / std).astype(np.float32)


def network_mask(mask: Mask, placement: Placement, outside: int = 0) -> Floats:
    """The support mask in the network's input: float32 [H,W] of 0, 1 and `outside`; nearest.

    `outside` fills a letterbox's margins: 0, or `OUTSIDE` for a network with a background contrast,
    since margins must not count as background.
    """
    rows = _nearest(mask.shape[0], placement.content[0])
    columns = _nearest(mask.shape[1], placement.content[1])
    canvas = np.full(placement.network, outside, np.float32)
    canvas[_content(placement)] = mask[np.ix_(rows, columns)]
    return canvas


def _content(placement: Placement) -> tuple[slice, slice]:
    (height, width), top, left = placement.content, placement.top, placement.left
    return slice(top, top + height), slice(left, left + width)


def _nearest(source: int, target: int) -> npt.NDArray[np.int64]:
    """The source pixel of each target pixel: PyTorch's `nearest` rule, in float32 as there."""
    scale = np.float32(source) / np.float32(target)
    steps = np.floor(np.arange(target, dtype=np.float32) * scale).astype(np.int64)
    return np.asarray(np.minimum(steps, source - 1))
