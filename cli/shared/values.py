"""Values as they are typed on a command line: sizes, ranges, amounts of memory."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

from hsnet_trt.errors import InputError

if TYPE_CHECKING:
    from hsnet_trt.runtime.bundle.manifest import ProfileRange


def command_line() -> str:
    """This run's command, as bundles and records keep it; bytes that are not UTF-8 as \\xf6."""
    typed = os.fsencode(shlex.join(["hsnet-trt", *sys.argv[1:]]))
    return typed.decode("utf-8", "backslashreplace")


def parse_range(text: str, what: str) -> ProfileRange:
    """Read `min:opt:max`, or one number for a fixed dimension.

    Args:
        text: what was typed.
        what: queries or supports, for the message.

    Raises:
        InputError: not of that form, or not 1 <= min <= opt <= max.
    """
    from hsnet_trt.export.engines.profiles import check_range, not_a_range
    from hsnet_trt.runtime.bundle.manifest import ProfileRange

    parts = text.split(":")
    parts = parts * 3 if len(parts) == 1 else parts
    if len(parts) == 3 and all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        return check_range(ProfileRange(*(int(part) for part in parts)), what)
    raise not_a_range(text, what)


def parse_size(text: str) -> tuple[int, int]:
    """Read a network's input size, `400` or `480x640` (height x width).

    Raises:
        InputError: not of that form.
    """
    parts = text.lower().split("x")
    parts = parts * 2 if len(parts) == 1 else parts
    if len(parts) == 2 and all(
        part.isascii() and part.isdigit() and int(part) > 0 for part in parts
    ):
        return int(parts[0]), int(parts[1])
    raise InputError(
        "the size is not valid", expected="400, or height x width as in 480x640", found=repr(text)
    )


def parse_bytes(text: str) -> int:
    """Read an amount of memory: `2GiB`, `512MiB`, `1.5G` or a number of bytes.

    Raises:
        InputError: not an amount of memory, or not above zero.
    """
    units = {
        "": 0,
        "b": 0,
        "k": 10,
        "kib": 10,
        "m": 20,
        "mib": 20,
        "g": 30,
        "gib": 30,
        "t": 40,
        "tib": 40,
    }
    stripped = text.strip().lower()
    number = stripped.rstrip("abcdefghijklmnopqrstuvwxyz ")
    shift = units.get(stripped[len(number) :].strip())
    try:
        amount = int(float(number) * 2 ** (0 if shift is None else shift))
    except (ValueError, OverflowError):
        amount = 0
    if shift is None or amount <= 0:
        raise InputError(
            "the amount of memory is not valid", expected="as in 2GiB or 512MiB", found=repr(text)
        )
    return amount
