"""Where a command writes: refused before the work begins, not after it."""

from __future__ import annotations

import errno
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

from hsnet_trt.errors import InputError


def check_folder(folder: Path, option: str = "--out") -> None:
    """Refuse a folder in which nothing can be written; one that is not there yet is fine.

    Raises:
        InputError: a file or a bundle is in its place, or nobody may write there.
    """
    whole = folder.absolute()
    place = next(path for path in (whole, *whole.parents) if os.path.lexists(path))
    if not place.is_dir():
        raise InputError(
            f"{folder} cannot be a folder",
            expected="a folder, or a path where one can be made",
            found=f"{place} is a file",
            fix=f"choose another {option}",
        )
    if (folder / "bundle.json").is_file():
        raise InputError(
            f"{folder} is a bundle, which takes no other files",
            expected="another folder",
            fix=f"choose another {option}",
        )
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(
            f"{folder} cannot be written",
            found=f"no permission to write in {place}",
            fix=f"choose another {option}, or change who may write there",
        )


def check_file(file: Path, option: str) -> None:
    """Refuse a path where no file can be written; see `check_folder` for its folder.

    Raises:
        InputError: a folder is in its place, or its own folder takes no file.
    """
    if file.is_dir():
        raise InputError(
            f"{file} is a folder", expected="a file's path", fix=f"choose another {option}"
        )
    check_folder(file.absolute().parent, option)


def check_installed(*modules: str) -> None:
    """Refuse to begin what would end for want of a package, after minutes or hours.

    Raises:
        ModuleNotFoundError: one of the packages is not installed; the command names its extra.
    """
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def check_kept(outputs: Iterable[Path], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse outputs that would overwrite what the command reads; names of no file are ignored.

    Raises:
        InputError: an output is one of the inputs.
    """
    read = [place for place in inputs if os.path.exists(place)]
    for output in outputs:
        if output.exists() and any(output.samefile(place) for place in read):
            raise InputError(
                f"{output} would be overwritten, and is read here",
                fix="write to another place",
            )


def explain(error: OSError) -> str:
    """What a file's error means and how to mend it, in the form of `HSNetError`."""
    fix = _FIXES.get(error.errno or 0, "check the path, and who may read and write there")
    if error.filename is None:
        return f"{error.strerror or error}\n  fix:      {fix}"
    text = f"{os.fsdecode(error.filename)} cannot be read or written\n"
    return f"{text}  found:    {error.strerror}\n  fix:      {fix}"


_FIXES = {
    errno.ENOSPC: "free some space, or choose a place on another disk",
    errno.EDQUOT: "free some of your quota, or choose a place on another disk",
    errno.ENOENT: "check the path",
    errno.EEXIST: "a file is in the way: remove it, or choose another path",
    errno.ENOTDIR: "a part of the path is a file: choose another path",
    errno.EISDIR: "this is a folder: give a file's path",
    errno.EACCES: "choose another path, or change who may read and write there",
    errno.EPERM: "choose another path, or change who may read and write there",
    errno.EROFS: "choose a place that is not mounted read-only",
    errno.ENAMETOOLONG: "choose a shorter name",
}
