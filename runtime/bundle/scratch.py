"""A scratch folder beside its target, which is cleaned up even if the writing process is killed.

A writer holds a lock on its own file `.NAME.xxxx.lock` while it lives. The system releases the lock
however the process ends, so process ids need not be trusted. The next writer may remove only what
belongs to a lock that nobody holds.
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
    """An empty folder beside `target`, on its file system; it is removed at the end.

    First the leftovers of killed writers of the same target are removed; a target that one of them
    had moved aside is moved back.

    Args:
        target: an absolute path, in an existing folder.

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
    """Move `fresh`, a `scratch_folder`, to `target`, atomically where possible.

    Where the file system cannot exchange two folders in one step, the old one is moved aside first.
    If the process is killed between the two moves, the next `scratch_folder` moves it back.

    Raises:
        OSError: the move failed; the old target is still there.
    """
    if not target.exists():
        fresh.rename(target)
        return
    if _exchange(fresh, target):
        return  # `fresh` now holds the old one, and is removed with the scratch folder
    aside = _aside(fresh)
    target.rename(aside)
    try:
        fresh.rename(target)
    except OSError:
        aside.rename(target)
        raise


def clear_dead(target: Path) -> None:
    """Remove the leftovers of killed writers of this target; running writers are not touched."""
    ours = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.lock")
    for lock in [path for path in target.parent.iterdir() if ours.fullmatch(path.name)]:
        with contextlib.suppress(OSError):  # another process removes it, or it is not ours
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
        os.write(handle, f"{os.getpid()}\n".encode())  # for information only
        _hold(handle)
        if _is_open(handle, lock):
            return lock, handle
        os.close(handle)  # another process removed the file before it was locked


def _hold(handle: int) -> bool:
    """Lock an open file; False if another process holds it, or where there are no locks."""
    if not _LOCKS:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_open(handle: int, path: Path) -> bool:
    """Whether the path still names the open file."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat(follow_symlinks=False))
    except OSError:
        return False


def _aside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.old")


def _remove(folder: Path, lock: Path) -> None:
    """Remove a scratch folder, and last its lock file, without which leftovers are never found."""
    for path in (folder, _aside(folder)):
        shutil.rmtree(path, ignore_errors=True)
    if not folder.exists() and not _aside(folder).exists():
        with contextlib.suppress(OSError):
            lock.unlink()


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders atomically; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    done = rename(_FROM_HERE, os.fsencode(one), _FROM_HERE, os.fsencode(other), _EXCHANGE)
    return bool(done == 0)
