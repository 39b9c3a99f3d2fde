"""Which classes each mask on disk shows, for datasets without split files."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from hsnet_trt.data.episodes.episode import Skipped
from hsnet_trt.data.episodes.files import IGNORE, read_index_mask
from hsnet_trt.errors import InputError
from hsnet_trt.files import cache_folder, replacing

# Smaller objects vanish at the resolution of the features (2048 pixels; later work on these
# datasets uses this limit, too).
MINIMUM_PIXELS = 2 * 32 * 32


def classes_shown(
    masks: Sequence[Path], what: str, skipped: Skipped | None = None
) -> dict[Path, list[int]]:
    """Mask path -> values (classes from 1) that cover at least MINIMUM_PIXELS of it.

    Reading tens of thousands of masks takes minutes: a progress bar is shown, and the result is
    cached in the user's cache folder until a mask's name, size or date changes.

    Raises:
        InputError: a mask is broken and `skipped` is None.
    """
    kept = _cache_file(masks, what)
    shown = _read_cache(kept, masks)
    if shown is not None:
        return shown
    shown, broken = {}, False
    console = Console(stderr=True)
    for path in track(
        masks,
        description=f"Reading the masks of {what}",
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    ):
        try:
            counts = np.bincount(read_index_mask(path).ravel(), minlength=256)
        except InputError as error:
            if skipped is None:
                raise
            skipped.add(error)
            broken = True
            continue
        found = np.flatnonzero(counts >= MINIMUM_PIXELS)
        shown[path] = [int(value) for value in found if value not in {0, IGNORE}]
    if not broken:
        _write_cache(kept, shown)
    return shown


def _cache_file(masks: Iterable[Path], what: str) -> Path:
    digest = hashlib.sha256(str(MINIMUM_PIXELS).encode())
    for path in masks:
        state = path.stat()
        line = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return cache_folder() / f"classes-{what.lower()}-{digest.hexdigest()[:24]}.json"


def _read_cache(kept: Path, masks: Sequence[Path]) -> dict[Path, list[int]] | None:
    try:
        values = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(values, list) or len(values) != len(masks):
        return None
    return dict(zip(masks, values, strict=True))


def _write_cache(kept: Path, shown: dict[Path, list[int]]) -> None:
    with suppress(OSError):  # without a writable cache folder, the next run only takes longer
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as scratch:
            scratch.write_text(json.dumps(list(shown.values())), encoding="utf-8")
