"""Shared by the readers of COCO and LabelMe files: JSON, image paths and image sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from hsnet_trt.data.episodes.episode import Mask
from hsnet_trt.errors import InputError

MAX_PIXELS = 150_000_000  # largest image size that a file may claim
# Label -> images that show it, each with a function that draws its mask, bool [H,W].
Found = dict[str, list[tuple[Path, Callable[[], Mask]]]]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object. Raises InputError naming the file."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"{path} cannot be read",
            found=error.strerror,
            fix="check the path, and who may read it",
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON", found=error, fix="save it again") from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} does not hold labels",
            expected="COCO's annotations or LabelMe's shapes",
            found=f"a JSON {type(content).__name__}",
        )
    return content


def image_path(folder: Path, name: object, file: Path) -> Path:
    """The path of an image that a label file names, in or below `folder`; it may not exist.

    Raises:
        InputError: it names no image, or one elsewhere.
    """
    text = name if isinstance(name, str) else ""
    windows, posix = PureWindowsPath(text), PurePosixPath(text)
    # Either kind of path may have been written, whatever system reads it.
    outside = windows.anchor or posix.anchor or ".." in windows.parts or "\0" in text
    if not text or outside:
        raise InputError(
            f"{file} names an image outside its folder",
            expected=f"a path below {folder}, without ..",
            found=repr(name),
            fix="name it in the file as it is called there",
        )
    below = folder / posix
    try:
        return below if below.exists() else folder / Path(*windows.parts)
    except (OSError, ValueError) as error:  # too long, or with characters that no name has
        raise InputError(
            f"{file} names an image by what is no file's name",
            expected="a path below its folder",
            found=repr(text[:80]),
            fix="name it in the file as it is called there",
        ) from error


def check_size(height: object, width: object, file: Path) -> tuple[int, int]:
    """The (height, width) that a file claims for an image. Raises InputError if implausible."""
    if (
        type(height) is int
        and type(width) is int
        and min(height, width) > 0
        and height * width <= MAX_PIXELS
    ):
        return height, width
    raise InputError(
        f"{file} gives an image a size that cannot be",
        expected=f"height and width, at most {MAX_PIXELS // 1_000_000} million pixels",
        found=f"{height!r} x {width!r}",
    )
