"""Reading images and masks, and resizing them as the paper's evaluation does."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageOps

from hsnet_trt.data.episodes.episode import Image, Mask
from hsnet_trt.errors import InputError

# Where Pillow also looks for an orientation, besides EXIF; picture viewers do not.
_NOT_EXIF = ("xmp", "XML:com.adobe.xmp", "Raw profile type exif")
IGNORE = 255  # value of boundary pixels in an index mask


def read_image(path: Path, *, upright: bool = False) -> Image:
    """Read an image file as RGB uint8 [H, W, 3]. Raises InputError naming the file.

    `upright`: apply the EXIF orientation. The datasets' masks belong to the pictures as stored.
    """
    return np.asarray(_open(path, "image", "RGB", upright=upright), np.uint8)


def read_alpha(path: Path, *, upright: bool = False) -> npt.NDArray[np.uint8] | None:
    """Read a picture's alpha, uint8 [H, W]; None if no pixel is below 128. Raises InputError."""
    picture = _open(path, "image", upright=upright)
    if "transparency" in picture.info:
        picture = picture.convert("RGBA")
    if "A" not in picture.getbands():
        return None
    alpha = np.asarray(picture.getchannel("A"))
    return alpha if alpha.min() < 128 else None


def read_index_mask(path: Path) -> npt.NDArray[np.uint8]:
    """Read a mask of class numbers, uint8 [H, W], from an 8-bit palette or grey PNG.

    Raises:
        InputError: the file is broken, or of another mode.
    """
    picture = _open(path, "mask")
    if picture.mode not in {"P", "L"}:
        raise InputError(
            f"the mask {path} does not hold class numbers",
            expected="an 8-bit palette or grey PNG (mode P or L)",
            found=f"mode {picture.mode}",
            fix="save the class numbers, not their colours",
        )
    return np.asarray(picture)


def read_grey_mask(path: Path) -> Mask:
    """Read a grey mask (FSS), bool [H, W]: the object is where it is at least 128.

    Raises:
        InputError: the file is broken.
    """
    return np.asarray(_open(path, "mask", "L")) >= 128


def read_any_mask(path: Path, *, upright: bool = False) -> tuple[Mask, Mask | None]:
    """Read a mask that a person made: (object, ignored or None), bool [H, W] each.

    In a palette PNG the object is any index but 0 and 255, and 255 is ignored. In any other file
    the object is where the mask reaches half of its own maximum, so 0/1 and 0/255 both work.

    Raises:
        InputError: the file is broken.
    """
    picture = _open(path, "mask", upright=upright)
    if picture.mode == "P":
        index = np.asarray(picture)
        ignored = index == IGNORE
        return (index > 0) & ~ignored, ignored if ignored.any() else None
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture).astype(np.float32)
    else:
        values = np.asarray(picture.convert("L")).astype(np.float32)
    top = float(values.max())
    return values >= max(top / 2, 1e-6), None


def check_same_size(image: Image, mask: npt.NDArray[np.generic], mask_path: Path) -> None:
    """Raise InputError naming the mask if its size differs from the image's."""
    if image.shape[:2] != mask.shape:
        raise InputError(
            f"the mask {mask_path} is not as large as its image",
            expected=f"{image.shape[0]} x {image.shape[1]} (height x width)",
            found=f"{mask.shape[0]} x {mask.shape[1]}",
            fix="make the mask at the size at which the image is shown",
        )


def resize_image(image: Image, size: tuple[int, int]) -> Image:
    """Resize uint8 [H, W, 3] to (height, width) with PIL's bilinear filter (antialiased)."""
    height, width = size
    bilinear = PILImage.Resampling.BILINEAR
    return np.asarray(PILImage.fromarray(image).resize((width, height), bilinear), np.uint8)


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """Resize bool [H, W] to (height, width): pixel i is taken from floor(i * n_in / n_out)."""
    rows, columns = (_nearest(n, out) for n, out in zip(mask.shape, size, strict=True))
    return np.asarray(mask[rows[:, None], columns[None, :]])


def _nearest(n_in: int, n_out: int) -> npt.NDArray[np.int64]:
    # In float32, as torch.nn.functional.interpolate: for 54 of the sizes below 1200, resizing to
    # 400 picks another row than exact fractions would, and figures must agree to the last digit.
    scale = np.float32(n_in) / np.float32(n_out)
    index = np.floor(np.arange(n_out, dtype=np.float32) * scale).astype(np.int64)
    return np.asarray(np.minimum(index, n_in - 1), np.int64)


def _open(
    path: Path, what: str, mode: str | None = None, *, upright: bool = False
) -> PILImage.Image:
    try:
        with PILImage.open(path) as picture:
            if picture.format == "EPS":
                raise ValueError("PostScript, a program, which Pillow would run with Ghostscript")
            picture.load()
            turned: PILImage.Image = _upright(picture) if upright else picture
            return turned.convert(mode) if mode else turned.copy()
    except FileNotFoundError:
        raise InputError(
            f"there is no {what} {path}",
            expected="a file",
            fix="put it there, or leave broken files out with --skip-bad",
        ) from None
    # PIL's decoders raise these on damaged data, its PNG reader SyntaxError.
    except (OSError, ValueError, SyntaxError, PILImage.DecompressionBombError) as error:
        raise InputError(
            f"the {what} {path} cannot be read",
            found=f"{type(error).__name__}: {error}",
            fix="replace it, or leave broken files out with --skip-bad",
        ) from error


def _upright(picture: PILImage.Image) -> PILImage.Image:
    for source in _NOT_EXIF:
        picture.info.pop(source, None)
    try:
        return ImageOps.exif_transpose(picture)
    except (OSError, ValueError, TypeError, KeyError, SyntaxError, struct.error):
        return picture  # an unreadable tag is ignored
