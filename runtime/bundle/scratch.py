"""A folder to write in beside its goal, which a killed process does not leave behind for ever.

A writer holds a lock on a file of its own, `.NAME.xxxx.lock`, for as long as it lives: the system
lets go of it however the process ends, so no process id has to be believed. Whoever comes next may
clear what belongs to a lock that nobody holds, and nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "win32":
    _LOCKS = False
else:
    import fcntl

    _LOCKS = True

_EXCHANGE, _FROM_HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux


@contextlib.contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, on its file system; it is gone at the end.

    First, what killed writers of the same target left is cleared; a target that one of them had
    put aside is put back.

    Args:
        target: an absolute path, in a folder that is there.

    Raises:
        OSError: nothing can be written there.
    """
    clear_dead(target)
    lock, handle = _take_lock(target)
    folder = lock.with_suffix("")
    try:
        folder.mkdir(mode=0o755)
        yield folder
    finally:
        _remove(folder, lock)
        os.close(handle)


def replace_folder(fresh: Path, target: Path) -> None:
    """Move `fresh`, a `scratch_folder`, to `target`. At any moment there is a whole target.

    Where the file system cannot exchange two folders at once, the old one is put aside first: a
    process killed between the two moves leaves it aside, and the next `scratch_folder` puts it
    back.
    """
    if not target.exists():
        fresh.rename(target)
        return
    if _exchange(fresh, target):
        return  # `fresh` holds the old one now, and goes as scratch does
    aside = _aside(fresh)
    target.rename(aside)
    try:
        fresh.rename(target)
    except OSError:
        aside.rename(target)
        raise


def clear_dead(target: Path) -> None:
    """Remove what killed writers of this target left; what a living one writes is not touched."""
    ours = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.lock")
    for lock in [path for path in target.parent.iterdir() if ours.fullmatch(path.name)]:
        with contextlib.suppress(OSError):  # another one clears it, or it is not ours to clear
            handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if not _hold(handle) or not _is_open(handle, lock):
                    continue
                folder = lock.with_suffix("")
                aside = _aside(folder)
                if aside.exists() and not target.exists():
                    aside.rename(target)
                _remove(folder, lock)
            finally:
                os.close(handle)


def _take_lock(target: Path) -> tuple[Path, int]:
    while True:
        lock = target.with_name(f".{target.name}.{secrets.token_hex(8)}.lock")
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(handle, f"{os.getpid()}\n".encode())  # for people
        _hold(handle)
        if _is_open(handle, lock):
            return lock, handle
        os.close(handle)  # cleared between the two: it looked dead for a moment


def _hold(handle: int) -> bool:
    """Lock an open file if nobody else does; False too where there are no locks."""
    if not _LOCKS:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_open(handle: int, path: Path) -> bool:
    """Whether the path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat(follow_symlinks=False))
    except OSError:
        return False


def _aside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.old")


def _remove(folder: Path, lock: Path) -> None:
    """The lock goes last: while anything is left, the next one has to know that it may clear it."""
    for path in (folder, _aside(folder)):
        shutil.rmtree(path, ignore_errors=True)
    if not folder.exists() and not _aside(folder).exists():
        with contextlib.suppress(OSError):
            lock.unlink()


def _exchange(one: Path, other: Path) -> bool:
    """Give two folders each other's place in one step; False where this system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    done = rename(_FROM_HERE, os.fsencode(one), _FROM_HERE, os.fsencode(other), _EXCHANGE)
    return bool(done == 0)
