"""Pictures of a result: masks drawn over the photograph, and the label map in colours."""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt
from PIL import Image

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.pictures.images import Pixels, view_image
from hsnet_trt.runtime.pictures.result import Segmentation
from hsnet_trt.runtime.pictures.sources import ImageSource

_STRENGTH = 0.45  # opacity of the colours


def class_colour(index: int) -> tuple[int, int, int]:
    """RGB, 0..255, of the class `classes[index]`; consecutive classes differ strongly."""
    # Steps of the golden ratio around the hue circle stay far from recent hues.
    red, green, blue = colorsys.hsv_to_rgb((0.36 + 0.618034 * index) % 1, 0.85, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_overlay(image: ImageSource, result: Segmentation) -> Pixels:
    """The photograph with its labels as translucent, outlined colours.

    Args:
        image: what was given to `segment`, or the `image` of a streamed frame.
        result: the result for it.

    Returns:
        uint8 [H,W,3], RGB, at the photograph's own size. For a BGR view it is a BGR view too, so
        that `[:, :, ::-1]` gives OpenCV's layout without a copy.

    Raises:
        InputError: the image cannot be read, or is not of the result's size.
    """
    pixels = view_image(image)
    if pixels.shape[:2] != result.labels.shape:
        raise InputError(
            "the result belongs to another image",
            expected=f"an image of {result.labels.shape[0]} x {result.labels.shape[1]}",
            found=f"{pixels.shape[0]} x {pixels.shape[1]}",
        )
    # A BGR view stays one: converting it to RGB and back would cost milliseconds.
    turned = pixels.strides[2] < 0
    picture: Pixels = pixels[:, :, ::-1].copy()[:, :, ::-1] if turned else pixels.copy()
    edge = _outline(result.labels)
    for index in range(len(result.classes)):
        colour = np.array(class_colour(index), np.float32)
        inside = result.labels == index + 1
        picture[inside] = (pixels[inside] * (1 - _STRENGTH) + colour * _STRENGTH).astype(np.uint8)
        picture[inside & edge] = colour.astype(np.uint8)
    return picture


def label_picture(result: Segmentation) -> Image.Image:
    """The label map as a palette image: pixel values are the labels, black is background."""
    picture = Image.fromarray(result.labels).convert("P")
    palette = [0, 0, 0]
    for index in range(255):
        palette += class_colour(index)
    picture.putpalette(palette)
    return picture


def _outline(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Where a neighbour has another label; in large pictures, a neighbour a few pixels away."""
    step = max(1, min(labels.shape) // 250)
    edge = np.zeros(labels.shape, bool)
    if min(labels.shape) > step:
        across, down = labels[:, step:] != labels[:, :-step], labels[step:] != labels[:-step]
        edge[:, step:] |= across
        edge[:, :-step] |= across
        edge[step:] |= down
        edge[:-step] |= down
    return edge
