"""Pictures that strangers send, looked at before they are decoded."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from hsnet_trt.errors import InputError

# What is decoded for strangers: of Pillow's formats those of photographs and masks, and none that
# calls other programs (EPS runs Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")


def check_picture(content: bytes, what: str, most_pixels: int, fix: str) -> None:
    """Refuse what should not be decoded, by its header.

    Args:
        content: of a picture's file.
        what: how an error names it.
        most_pixels: how many it may have.
        fix: what helps against too many.

    Raises:
        InputError: not a picture of `FORMATS`, or one of more pixels.
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
