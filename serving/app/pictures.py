"""Support photographs of the page's users, and their masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from hsnet_trt.data.labels.grabcut import mask_from_scribble
from hsnet_trt.errors import InputError
from hsnet_trt.runtime.pictures.images import Pixels, read_image
from hsnet_trt.runtime.pictures.masks import Mask, read_mask
from hsnet_trt.runtime.pictures.orientation import turns_sides

WORKING_SIDE = 1024  # pixels; the network cannot use masks that are finer


@dataclass(frozen=True)
class Picture:
    """A support photograph.

    Attributes:
        pixels: uint8 [H,W,3] RGB, upright, its longer side at most `WORKING_SIDE`.
        turned: the EXIF orientation of its file.
    """

    pixels: Pixels
    turned: int

    def read_mask(self, content: bytes) -> Mask:
        """Read a mask file with the picture's aspect ratio; bool [H,W] at the picture's size.

        Raises:
            InputError: not a mask, empty, of several labels, or of another aspect ratio.
        """
        height, width = self.pixels.shape[:2]
        what = "the mask"
        # A mask at the photograph's original size is accepted too.
        sent = read_image(content, what).shape[:2]
        larger = sent != (height, width) and _same_proportions(sent, (height, width))
        if larger:
            size = sent
        elif turns_sides(self.turned) and _same_proportions(sent[::-1], (height, width)):
            size = sent[::-1]  # a mask of the unrotated photograph: `read_mask` explains that
        else:
            size = (height, width)
        mask = read_mask(content, size, what, turned=self.turned)
        if larger:
            planes = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
            mask = np.asarray(planes)
        return mask

    def cut_scribble(self, scribble: Pixels) -> Mask:
        """The object marked by a scribble, by GrabCut; bool [H,W].

        Args:
            scribble: uint8 [H,W,3]: red on the object, green on the background.

        Raises:
            InputError: the scribble is not of the picture's size, or has no red.
        """
        if scribble.shape != self.pixels.shape:
            raise InputError(
                "the scribble is not of its picture's size",
                expected=f"{self.pixels.shape[0]} x {self.pixels.shape[1]}",
                found=f"{scribble.shape[0]} x {scribble.shape[1]}",
            )
        foreground, background = scribble[..., 0] >= 128, scribble[..., 1] >= 128
        return mask_from_scribble(self.pixels, foreground, background & ~foreground)


def shrink(pixels: Pixels) -> Pixels:
    """Scale a picture down so that its longer side is at most `WORKING_SIDE`."""
    height, width = pixels.shape[:2]
    scale = WORKING_SIDE / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _same_proportions(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two sizes have the same aspect ratio, to a pixel."""
    scale = other[0] / one[0]
    return abs(one[1] * scale - other[1]) <= max(1.0, scale)
