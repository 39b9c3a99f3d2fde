"""Rotation of photographs by the orientation tag in their EXIF block, and by nothing else.

Browsers and cameras use only that tag. Pillow's `exif_transpose` also reads the orientation from
XMP and PNG text chunks, so a picture could be segmented in another rotation than a browser shows.
"""

from __future__ import annotations

import struct

from PIL import Image

_TAG = 0x0112
# For every orientation but 1: the transpose that makes it upright, and the same in NumPy.
_UPRIGHT = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, "mask[:, ::-1]"),
    3: (Image.Transpose.ROTATE_180, "np.rot90(mask, 2)"),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, "mask[::-1]"),
    5: (Image.Transpose.TRANSPOSE, "mask.T"),
    6: (Image.Transpose.ROTATE_270, "np.rot90(mask, -1), 90 degrees clockwise"),
    7: (Image.Transpose.TRANSVERSE, "np.rot90(mask, 2).T"),
    8: (Image.Transpose.ROTATE_90, "np.rot90(mask), 90 degrees counter-clockwise"),
}


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) if there is none that can be read."""
    block = image.info.get("exif")
    try:
        if block:
            tags = Image.Exif()
            tags.load(block)
            found = tags.get(_TAG, 1)
        else:
            found = getattr(image, "tag_v2", {}).get(_TAG, 1)  # a TIFF file's own tags
    except (OSError, ValueError, TypeError, KeyError, SyntaxError, struct.error):
        return 1
    return found if isinstance(found, int) and found in _UPRIGHT else 1


def upright(image: Image.Image) -> Image.Image:
    """The image, rotated or flipped by its EXIF orientation."""
    turn = _UPRIGHT.get(orientation(image))
    return image if turn is None else image.transpose(turn[0])


def turns_sides(number: int) -> bool:
    """Whether that EXIF orientation swaps width and height."""
    return number >= 5


def mask_fix(number: int) -> str:
    """The NumPy expression that rotates a mask by an EXIF orientation, 2 to 8."""
    return _UPRIGHT[number][1]
