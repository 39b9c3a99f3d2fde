"""What was compiled or measured on this machine, kept from one start to the next.

Kernels are native code that no manifest vouches for, so all of it is in the user's own cache folder
and is read only if nobody else can write there.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Any

_log = logging.getLogger("hsnet_trt.tensorrt")


def cache_folder() -> Path:
    """The user's own folder for what was compiled or measured here."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hsnet_trt"


def cache_file(engine_sha256: str, gpu: str) -> Path:
    """Where the kernels that TensorRT for RTX compiled of that engine for that GPU are kept."""
    name = "".join(c if c.isalnum() else "-" for c in gpu)
    return cache_folder() / f"{engine_sha256[:32]}-{name}.rtxcache"


def open_cache(config: Any, file: Path) -> Any:
    """A runtime cache for an `IRuntimeConfig`, filled from the file where that may be trusted.

    TensorRT itself refuses what another version, GPU or driver left; then it starts empty.
    """
    cache = config.create_runtime_cache()
    content = read_kept(file)
    if content is not None and not cache.deserialize(content):
        _log.info("%s was made by another version, GPU or driver", file)
    return cache


def keep(cache: Any, file: Path) -> None:
    """Write a runtime cache; failing costs only time."""
    try:
        content = bytes(cache.serialize())
    except TypeError:
        _log.warning("TensorRT for RTX has compiled nothing to keep in %s", file)
        return
    keep_content(content, file)


def read_kept(file: Path) -> bytes | None:
    """What was kept; None where nothing was, or where it may not be trusted."""
    try:
        if not file.exists():
            return None
        if not _only_ours(file) or not _only_ours(file.parent):
            _log.warning("%s is not read: others can write there", file)
            return None
        return file.read_bytes()
    except OSError as error:
        _log.warning("%s cannot be read: %s", file, error)
        return None


def keep_content(content: bytes, file: Path) -> None:
    """Write a file beside its place and move it there; failing costs only time."""
    try:
        if file.exists() and file.read_bytes() == content:
            return
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.{os.getpid()}.part")
        try:
            partial.touch(mode=0o600)
            partial.write_bytes(content)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s cannot be written: %s", file, error)


def _only_ours(path: Path) -> bool:
    if not hasattr(os, "getuid"):  # Windows: a user's profile is his own
        return True
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
