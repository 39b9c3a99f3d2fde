"""Photographs in common forms -> uint8 RGB [H,W,3], upright."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from hsnet_trt.errors import InputError, warn
from hsnet_trt.runtime.pictures.orientation import orientation, upright
from hsnet_trt.runtime.pictures.sources import ImageSource, as_array, file_of, is_encoded

Pixels: TypeAlias = "npt.NDArray[np.uint8]"

# A file of a few kilobytes can claim to be far larger. Pillow itself refuses only from 179 MP.
MAX_PIXELS = 150_000_000

_EXPECTED = "uint8 [H,W,3] (RGB), a path, a file object, or a PIL image"
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_FLOAT = "F"
_warnings_lock = threading.Lock()


def check_color(color: str) -> None:
    """Refuse an unknown channel order.

    Raises:
        InputError: neither "rgb" nor "bgr".
    """
    if color not in ("rgb", "bgr"):
        raise InputError(
            "there is no such order of an array's channels",
            expected='"rgb" or "bgr"',
            found=repr(color),
            fix='give color="bgr" for what OpenCV reads, and nothing otherwise',
        )


def read_image(source: ImageSource, what: str = "the image", color: str = "rgb") -> Pixels:
    """Read a photograph as RGB with 8 bits per channel, rotated by its EXIF tag.

    Grey is repeated in all three channels, transparent pixels are blended with white, CMYK and
    palettes are converted, and 16-bit values are scaled from 0..65535.

    Args:
        source: a path, the content of an image file, a file object (read from its beginning), a
            PIL image, or an array of NumPy or another library on the host: [H,W], [H,W,1], [H,W,3]
            or [H,W,4] (the last channel is alpha), uint8, or integers of 16 or 32 bits with values
            0..65535.
        what: names the image in errors.
        color: the channel order of arrays, "rgb", or "bgr" as OpenCV reads them. Files and PIL
            images know their own.

    Returns:
        uint8 [H,W,3], RGB, C-contiguous. It is the caller's own array, not a copy, if that is so
        already.

    Raises:
        InputError: not such an image, a file that cannot be read or is truncated, more than
            `MAX_PIXELS` pixels, or another `color`.

    Warns:
        HSNetWarning: the largest of the 16-bit values is below an eighth of their range.
    """
    return np.ascontiguousarray(view_image(source, what, color))


def view_image(source: ImageSource, what: str = "the image", color: str = "rgb") -> Pixels:
    """`read_image` without its final copy: where possible, a view of the caller's uint8 array.

    Indexed, it is RGB [H,W,3]; in memory its rows may be padded or cropped, and a BGR array's
    channels are reversed (the last stride is -1).
    """
    check_color(color)
    if is_encoded(source):
        with open_image(source, what) as image:
            return _to_rgb(image, what)
    if isinstance(source, Image.Image):
        check_open(source, what)
        return _to_rgb(source, what)
    return _from_array(source, what, color)


@contextmanager
def open_image(source: ImageSource, what: str) -> Iterator[Image.Image]:
    """Open and decode an image file (a path, its content, or a file object).

    The EXIF rotation is not applied: see `upright`.

    Raises:
        InputError: no such file, not an image, truncated or corrupt, too large, or PostScript.
    """
    file = file_of(source, what)
    name = f"{len(file)} bytes" if isinstance(file, bytes) else os.fspath(file)
    try:
        # Pillow warns from 89 MP on and refuses from 179 MP on; the limit here lies between them.
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)
    except Image.DecompressionBombError as error:
        raise _too_large(str(error), what) from error
    # Of a damaged file, Pillow's readers raise what happens to occur, also RuntimeError and others.
    except Exception as error:
        raise InputError(
            f"{what} cannot be opened: {name}",
            expected="an image file (JPEG, PNG, TIFF, WebP, ...)",
            found=_cause(error, file),
            fix="name the image files in it; `hsnet-trt video --input FOLDER` takes a folder"
            if isinstance(error, IsADirectoryError)
            else "check the path and the file",
        ) from error
    with image:
        check_area(image.size, what)
        if image.format == "EPS":
            raise InputError(
                f"{what} is not a photograph: {name}",
                expected="an image file (JPEG, PNG, TIFF, WebP, ...)",
                found="PostScript, a program, which only Ghostscript could draw by running it",
                fix="convert it to PNG",
            )
        try:
            image.load()
        except Exception as error:
            raise InputError(
                f"{what} is damaged: {name}",
                expected="a complete image file",
                found=str(error) or type(error).__name__,
                fix="copy or save the file again",
            ) from error
        yield image


def stored_orientation(source: ImageSource) -> int:
    """The EXIF orientation (1 to 8) of an image; 1 for arrays.

    Raises:
        InputError: a file that cannot be opened.
    """
    if isinstance(source, Image.Image):
        return orientation(source)
    if not is_encoded(source):
        return 1
    with open_image(source, "the image") as image:
        return orientation(image)


def check_area(size: tuple[int, int], what: str) -> None:
    """Refuse an image (width, height) that has no pixels or too many.

    Raises:
        InputError: 0 pixels, or more than `MAX_PIXELS`.
    """
    width, height = size
    if width < 1 or height < 1:
        raise InputError(
            f"{what} is empty", expected="at least 1 x 1 pixel", found=f"{width} x {height}"
        )
    if width * height > MAX_PIXELS:
        raise _too_large(f"{width} x {height}", what)


def check_open(image: Image.Image, what: str) -> None:
    """Refuse a PIL image that has no pixels, too many, or some that cannot be read.

    `Image.open` reads no more than the file's head, so that damage shows only here.

    Raises:
        InputError: it is such an image, or closed.
    """
    check_area(image.size, what)
    try:
        image.load()
    except Exception as error:
        raise InputError(
            f"{what} cannot be read from its PIL image",
            expected="an open image of a complete file",
            found=str(error) or type(error).__name__,
            fix="copy or save the file again, and do not close the image before it is used",
        ) from error


def _to_rgb(image: Image.Image, what: str) -> Pixels:
    image = upright(image)
    if image.mode in (*_SIXTEEN_BIT, _FLOAT):  # Pillow would cut floats off at 255: 0 to 1 is black
        return _from_array(np.asarray(image), what)
    try:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        image = image if image.mode == "RGB" else image.convert("RGB")
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{what} cannot be converted to RGB",
            expected="a photograph",
            found=f"mode {image.mode}: {error}",
        ) from error
    return np.asarray(image)


def _from_array(source: Any, what: str, color: str = "rgb") -> Pixels:
    if source is None:
        raise InputError(
            f"{what} is None",
            expected=_EXPECTED,
            fix="check the path: OpenCV's imread returns None for a file that it cannot read",
        )
    array = as_array(source, what, _EXPECTED)
    shape, channels = array.shape, (array.shape[2] if array.ndim == 3 else 1)
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        turned = array.ndim == 3 and shape[0] in (1, 3, 4)
        raise InputError(
            f"{what} has the wrong shape",
            expected=_EXPECTED,
            found=f"{array.dtype} {list(shape)}",
            fix="move the channels last: image.transpose(1, 2, 0)"
            if turned
            else "give one image at a time; segment_batch takes several",
        )
    check_area((shape[1], shape[0]), what)
    if array.dtype.kind in "ui" and array.dtype.itemsize in (2, 4):
        array = _from_sixteen_bit(array, what)
    if array.dtype != np.uint8:
        scale = {"f": "image.round()", "b": "(image * 255)"}.get(array.dtype.kind, "image")
        if array.dtype.kind == "f" and array.max() <= 1:
            scale = "(image * 255).round()"
        raise InputError(
            f"{what} is of the wrong type",
            expected=_EXPECTED,
            found=f"{array.dtype} {list(shape)}",
            fix=f"scale it to 0..255 and convert it: {scale}.astype('uint8')",
        )
    if color == "bgr" and channels > 1:
        array = array[:, :, [2, 1, 0, 3]] if channels == 4 else array[:, :, ::-1]
    if channels == 4:
        return _to_rgb(Image.fromarray(np.ascontiguousarray(array)), what)
    if channels == 1:
        array = np.broadcast_to(array.reshape(*shape[:2], 1), (*shape[:2], 3))
    return array


def _from_sixteen_bit(array: npt.NDArray[Any], what: str) -> Pixels:
    least, most = int(array.min()), int(array.max())
    if least < 0 or most > 65535:
        raise InputError(
            f"{what} is not a photograph", expected="values 0..65535", found=f"{least}..{most}"
        )
    if 0 < most < 65536 // 8:
        bits = most.bit_length()
        scaled = "image" if bits <= 8 else f"(image >> {bits - 8})"
        warn(
            f"{what} is nearly black: its 16-bit values reach {most} of 65535; "
            f"if they are of {bits} bits, scale them: {scaled}.astype('uint8')"
        )
    # 65535 / 255 = 257; + 128 rounds to the nearest.
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _too_large(found: str, what: str) -> InputError:
    return InputError(
        f"{what} is too large",
        expected=f"{MAX_PIXELS // 1_000_000} million pixels at most",
        found=found,
        fix="scale it down first; the network sees a few hundred pixels a side",
    )


def _cause(error: Exception, source: str | os.PathLike[str] | bytes) -> str:
    if isinstance(source, bytes):
        return f"content that begins with {source[:8]!r}"
    if isinstance(error, FileNotFoundError):
        return f"no file {Path(source).absolute()}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
