"""Files that are there whole or not at all, and the user's cache folder."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def scratch_name(path: Path) -> Path:
    """A new hidden name beside `path`, with its suffix, since some writers go by that.

    It differs each time, so that two processes may write the same file at once.
    """
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A `scratch_name` to write to, which replaces `path` at the end.

    If the block fails, `path` is as it was, and nothing else is left.

    Raises:
        OSError: `path` cannot be replaced, or the block wrote nothing.
    """
    scratch = scratch_name(path)
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def cache_folder() -> Path:
    """The user's cache folder: `$XDG_CACHE_HOME/hsnet_trt`, or `~/.cache/hsnet_trt`.

    A container may run as a user of no name, who has no home; then one of the temporary folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hsnet_trt"
    except RuntimeError:
        return Path(tempfile.gettempdir(), f"hsnet_trt-{os.getuid()}")
