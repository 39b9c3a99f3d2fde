"""Split files in the authors' formats, read as untrusted input."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hsnet_trt.errors import InputError


def find_split(splits: Path, dataset: str, part: str) -> Path:
    """Find a split file: `splits` itself, or splits/part, or splits/dataset/part.

    Args:
        splits: a split file, or a folder laid out as the authors' `data/splits`.
        dataset: "pascal", "coco" or "fss".
        part: the path below the dataset, such as "val/fold0.txt".

    Raises:
        InputError: there is none.
    """
    for path in (splits, splits / part, splits / dataset / part):
        if path.is_file():
            return path
    raise InputError(
        f"there is no split file {part} under {splits}",
        expected=f"{splits / part} or {splits / dataset / part}",
        fix="point at the authors' data/splits folder, or at the file itself",
    )


def check_names(names: Iterable[str], path: Path) -> None:
    """Raise InputError if a split file names something that is not directly in a dataset's folder.

    A name becomes part of a path, and split files are not trusted.
    """
    for name in names:
        if "/" in name or "\\" in name or ".." in name:
            raise InputError(
                f"the split file {path} names something that is not in the dataset",
                expected="names without slashes and dots in a row",
                found=name,
            )


def read_lines(path: Path) -> list[str]:
    """The non-blank lines of a text file, stripped. Raises InputError if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the split file {path} cannot be read",
            found=str(error),
            fix="give the authors' data/splits with --splits",
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_pascal_split(path: Path) -> list[tuple[str, int]]:
    """Read lines `name__CC` (CC from 1) as (name, class id from 0), in order.

    Raises:
        InputError: the file cannot be read, or a line is something else.
    """
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        name, mark, digits = line.rpartition("__")
        if not (mark and name and digits.isdecimal() and 1 <= int(digits) <= 20):
            raise InputError(
                f"line {number} of the split file {path} is not a PASCAL entry",
                expected="name__CC with CC from 01 to 20",
                found=line,
            )
        pairs.append((name, int(digits) - 1))
    check_names((name for name, _ in pairs), path)
    return pairs


def read_coco_split(path: Path) -> dict[int, list[str]]:
    """Read a pickled {class id: [image name, ...]} without running code from the file.

    Raises:
        InputError: the file is broken or holds anything else.
    """
    try:
        data = path.read_bytes()
        _only_plain(data)
        found = _PlainUnpickler(io.BytesIO(data)).load()
    # A damaged pickle can raise nearly anything; what it may build is restricted.
    except Exception as error:
        raise InputError(
            f"the split file {path} cannot be read",
            expected="a pickle of dict, list, str and int, as the authors publish it",
            found=f"{type(error).__name__}: {error}",
        ) from error
    if not (
        type(found) is dict
        and all(type(key) is int and type(names) is list for key, names in found.items())
        and all(type(name) is str for names in found.values() for name in names)
    ):
        raise InputError(
            f"the split file {path} does not hold lists of image names",
            expected="{class id: [image name, ...]}",
        )
    # A name may lead only to a file below the dataset.
    for name in (name for names in found.values() for name in names):
        if not name.endswith(".jpg") or name.startswith(("/", "\\")) or ".." in name:
            raise InputError(
                f"the split file {path} names something that is no image of the dataset",
                expected="val2014/COCO_val2014_000000000001.jpg and the like",
                found=name,
            )
    return found


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that refuses to load any class or function."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"refused to load {module}.{name}")


def _only_plain(data: bytes) -> None:
    # A pickle is a program, so it is checked before anything is built. These are the instructions
    # that make dicts, lists, text and integers; none of them calls or looks up anything.
    for instruction, _, _ in pickletools.genops(data):
        if instruction.name not in _PLAIN:
            raise pickle.UnpicklingError(f"refused the instruction {instruction.name}")


_INSTRUCTIONS = (
    "PROTO FRAME STOP MARK EMPTY_DICT EMPTY_LIST DICT LIST SETITEM SETITEMS APPEND APPENDS "
    "PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET MEMOIZE INT BININT BININT1 BININT2 LONG LONG1 "
    "UNICODE BINUNICODE SHORT_BINUNICODE"
)
_PLAIN = frozenset(_INSTRUCTIONS.split())
