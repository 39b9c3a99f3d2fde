"""The user's cache of compiled kernels and measured times of this machine.

Kernels are native code whose hashes are in no manifest, so files are read only if no other user can
write them or their folder.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Any

from hsnet_trt.files import cache_folder, replacing

_log = logging.getLogger("hsnet_trt.tensorrt")


def cache_file(engine_sha256: str, gpu: str) -> Path:
    """The cache file of the kernels that TensorRT for RTX compiled of an engine for a GPU."""
    name = "".join(c if c.isalnum() else "-" for c in gpu)
    return cache_folder() / f"{engine_sha256[:32]}-{name}.rtxcache"


def open_cache(config: Any, file: Path) -> Any:
    """A runtime cache for an `IRuntimeConfig`, loaded from the file if that is trusted.

    TensorRT refuses content of another version, GPU or driver; the cache then starts empty.
    """
    cache = config.create_runtime_cache()
    content = read_kept(file)
    if content is not None and not cache.deserialize(content):
        _log.info("%s was made by another version, GPU or driver", file)
    return cache


def keep(cache: Any, file: Path) -> None:
    """Write a runtime cache; errors are only logged, since the cache just saves time."""
    try:
        content = bytes(cache.serialize())
    except TypeError:
        _log.warning("TensorRT for RTX has compiled nothing to keep in %s", file)
        return
    keep_content(content, file)


def read_kept(file: Path) -> bytes | None:
    """A cache file's content; None if it is missing, empty, unreadable, or writable by others."""
    try:
        if not file.exists():
            return None
        if not _only_ours(file) or not _only_ours(file.parent):
            _log.warning("%s is not read: others can write there", file)
            return None
        return file.read_bytes() or None  # a power cut may leave an empty file
    except OSError as error:
        _log.warning("%s cannot be read: %s", file, error)
        return None


def keep_content(content: bytes, file: Path) -> None:
    """Write a cache file atomically; errors are only logged, since the cache just saves time."""
    try:
        if file.exists() and file.read_bytes() == content:
            return
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(file) as scratch:
            scratch.touch(mode=0o600)
            with scratch.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
    except OSError as error:
        _log.warning("%s cannot be written: %s", file, error)


def _only_ours(path: Path) -> bool:
    if not hasattr(os, "getuid"):  # on Windows, profiles are private
        return True
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
