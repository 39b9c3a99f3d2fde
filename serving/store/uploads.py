"""Checks of untrusted pictures before they are decoded."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from hsnet_trt.errors import InputError

# Formats that are decoded for untrusted clients: those of photographs and masks, and none for which
# Pillow runs other programs (EPS runs Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")


def check_picture(content: bytes, what: str, most_pixels: int, fix: str) -> None:
    """Refuse pictures that should not be decoded, by their header.

    Args:
        content: content of an image file.
        what: names it in errors.
        most_pixels: the most pixels it may have.
        fix: the advice in the error about too many pixels.

    Raises:
        InputError: not a picture of `FORMATS`, or too many pixels.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            size = f"{image.width} x {image.height}"
            fits = image.width * image.height <= most_pixels
    except Image.DecompressionBombError as error:
        size, fits = str(error), False
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise InputError(
            f"{what} is not a picture the server reads",
            expected=f"the content of a file: {', '.join(FORMATS)}",
            found=f"{len(content)} bytes that begin with {content[:8]!r}",
        ) from error
    if not fits:
        raise InputError(
            f"{what} is too large",
            expected=f"{most_pixels / 1e6:g} million pixels at most",
            found=size,
            fix=fix,
        )
