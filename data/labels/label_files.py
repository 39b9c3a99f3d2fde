"""What the readers of COCO's and LabelMe's files share: the JSON, image paths and image sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from hsnet_trt.data.episodes.episode import Mask
from hsnet_trt.errors import InputError

MAX_PIXELS = 150_000_000  # what a file may claim an image to have
# By label: the images that show it, and a function that draws its mask, bool [H,W], in each.
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
    """Return where an image is that a file of labels names: in or below the folder.

    Raises:
        InputError: it names none, or one elsewhere.
    """
    text = name if isinstance(name, str) else ""
    windows, posix = PureWindowsPath(text), PurePosixPath(text)
    # Either kind of path may have been written, wherever it is read.
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
    except (OSError, ValueError) as error:  # too long, or of characters that no name has
        raise InputError(
            f"{file} names an image by what is no file's name",
            expected="a path below its folder",
            found=repr(text[:80]),
            fix="name it in the file as it is called there",
        ) from error


def check_size(height: object, width: object, file: Path) -> tuple[int, int]:
    """Return the size of an image as a file claims it. Raises InputError."""
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
