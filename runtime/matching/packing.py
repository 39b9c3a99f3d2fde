"""Encoded supports as their columns under the mask, and packed for two forms of `match`.

Features outside the mask are zero, and so is their correlation with every query. So only the
columns under the mask are kept, saved and matched. The correlation plugin reads, per level and
shot, these columns side by side, and their positions. A packed `match` reads the columns of all
shots; the windows of the first support convolution that touch one of them; and for each shot one
window without any, which stands for all its other windows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hsnet_trt.runtime.bundle.manifest import PackedLevel

LEVELS = ("s2", "s3", "s4")
# The background contrast's vectors of levels 3 and 4, [S,1,C,1]: shaped like levels of one layer
# and one position, so that they are kept, saved and sent in the same way.
CONTRASTS = ("c3", "c4")
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Columns:
    """One level of one encoded support.

    Attributes:
        at: int64 [n], the positions under the mask, ascending.
        values: [L,n,C], the features there; zero at all other positions.
        row: length of a row of all positions, with its padding.
    """

    at: Indices
    values: npt.NDArray[Any]
    row: int


Shot: TypeAlias = "dict[str, Columns]"  # by s2, s3, s4, and c3, c4


def supports_in(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the names that are encoded supports, in order."""
    there = set(names)
    return tuple(name for name in (*LEVELS, *CONTRASTS) if name in there)


def compress(encoded: dict[str, npt.NDArray[Any]]) -> list[Shot]:
    """`s2`, `s3`, `s4` [S,L,C,row] (and `c3`, `c4`) -> each shot's non-zero columns."""
    levels = supports_in(encoded)
    count = len(encoded["s2"])
    return [{level: columns_of(encoded[level][i]) for level in levels} for i in range(count)]


def columns_of(dense: npt.NDArray[Any]) -> Columns:
    """One level of one shot [L,C,row] -> its non-zero columns."""
    at = np.flatnonzero(dense.any(axis=(0, 1)))
    columns = dense.transpose(0, 2, 1)
    # Gathering all columns would take twice as long as the transposition alone.
    kept = columns if len(at) == dense.shape[2] else columns[:, at]
    return Columns(at, np.ascontiguousarray(kept), dense.shape[2])


def expand(
    shots: Sequence[Shot], names: Sequence[str] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """The shots as dense `s2`, `s3`, `s4` [S,L,C,row] (and `c3`, `c4`), or only `names` of them.

    In the finest type of any shot: one that was loaded may be FP16 beside FP32 ones.
    """
    encoded = {}
    for level in supports_in(shots[0]) if names is None else names:
        first = shots[0][level]
        layers, _, channels = first.values.shape
        shape = (len(shots), layers, channels, first.row)
        encoded[level] = np.zeros(shape, _finest([shot[level] for shot in shots]))
        for dense, shot in zip(encoded[level], shots, strict=True):
            dense[:, :, shot[level].at] = shot[level].values.transpose(0, 2, 1)
    return encoded


def side_by_side(shots: Sequence[Shot]) -> dict[str, npt.NDArray[Any]]:
    """Shots as the correlation plugin takes them.

    Returns:
        For levels 2, 3, 4: `s` [S,L,C,row], `a` int32 [S,row] and `n` int32 [S]; see
        `join_columns`. `c3` and `c4` [S,1,C,1], if the shots have them.
    """
    packed: dict[str, npt.NDArray[Any]] = {}
    for name in LEVELS:
        number = name[1]
        joined = join_columns([shot[name] for shot in shots])
        packed[name], packed[f"a{number}"], packed[f"n{number}"] = joined
    return {**packed, **expand(shots, [name for name in CONTRASTS if name in shots[0]])}


def join_columns(
    shots: Sequence[Columns],
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """One level of S shots for the correlation plugin.

    Returns:
        values [S,L,C,row], the columns under each shot's mask from the left, then zeros; positions
        int32 [S,row], ascending, then zeros; counts int32 [S], the columns of each shot.
    """
    layers, _, channels = shots[0].values.shape
    row = shots[0].row
    values = np.zeros((len(shots), layers, channels, row), _finest(shots))
    positions = np.zeros((len(shots), row), np.int32)
    for shot, mine, places in zip(shots, values, positions, strict=True):
        count = len(shot.at)
        mine[:, :, :count] = shot.values.transpose(0, 2, 1)
        places[:count] = shot.at
    return values, positions, np.array([len(shot.at) for shot in shots], np.int32)


def _finest(shots: Sequence[Columns]) -> np.dtype[Any]:
    return np.result_type(*{shot.values.dtype for shot in shots})


def pack(shots: Sequence[Shot], levels: Sequence[PackedLevel]) -> dict[str, npt.NDArray[Any]]:
    """Shots as the packed `match` takes them.

    Returns:
        For levels 2, 3, 4: `s` [L,R,C], the columns under the masks of all shots, and last a column
        of zeros; `w` int64 [T,k*k], the index in `s` of each tap of each window, row by row; `p`
        int64 [S,h'*w'], the index in `w` of the window of each output. `c3` and `c4` [S,1,C,1], if
        the shots have them.
    """
    packed: dict[str, npt.NDArray[Any]] = {}
    for name, level in zip(LEVELS, levels, strict=True):
        parts = [shot[name].values for shot in shots]
        zero = np.zeros_like(parts[0], shape=(parts[0].shape[0], 1, parts[0].shape[2]))
        packed[name] = np.concatenate([*parts, zero], axis=1)
        windows, places = index_windows([shot[name].at for shot in shots], level)
        packed[f"w{name[1]}"], packed[f"p{name[1]}"] = windows, places
    return {**packed, **expand(shots, [name for name in CONTRASTS if name in shots[0]])}


def views(packed: dict[str, npt.NDArray[Any]], shots: Sequence[Shot]) -> list[Shot]:
    """The packed shots as views of the packed columns; `c3` and `c4` stay as they are."""
    seen: list[Shot] = [{} for _ in shots]
    for level in LEVELS:
        first = 0
        for shot, view in zip(shots, seen, strict=True):
            columns = shot[level]
            values = packed[level][:, first : first + len(columns.at)]
            view[level] = Columns(columns.at, values, columns.row)
            first += len(columns.at)
    for shot, view in zip(shots, seen, strict=True):
        view.update({name: shot[name] for name in CONTRASTS if name in shot})
    return seen


def index_windows(kept: Sequence[Indices], level: PackedLevel) -> tuple[Indices, Indices]:
    """Number the kept columns and the windows that touch them.

    Args:
        kept: for each shot the positions under its mask, int64 [n].
        level: the grid and the windows.

    Returns:
        `w` [T,k*k] and `p` [S,h'*w'], as `pack` returns them.
    """
    positions = level.grid[0] * level.grid[1]
    zero = sum(len(at) for at in kept)
    windows, places, columns, first = [], [], 0, 0
    for at in kept:
        numbers = np.full(positions + 1, zero, np.int64)  # the last stands for taps off the grid
        numbers[at] = np.arange(columns, columns + len(at))
        found = numbers[_windows(level)]  # [h'*w',k*k]
        touched = (found != zero).any(axis=1)
        mine = found[touched]
        if not touched.all():
            mine = np.concatenate([np.full_like(found[:1], zero), mine])
        place = np.full(len(found), first, np.int64)
        place[touched] = first + len(mine) - int(touched.sum()) + np.arange(int(touched.sum()))
        windows.append(mine)
        places.append(place)
        columns, first = columns + len(at), first + len(mine)
    return np.concatenate(windows), np.stack(places)


@functools.lru_cache(maxsize=16)
def _windows(level: PackedLevel) -> Indices:
    """The grid position of each tap of each window, [h'*w',k*k]; h*w means off the grid."""
    height, width = level.grid
    reach = level.kernel // 2
    padded = np.full((height + 2 * reach, width + 2 * reach), height * width, np.int64)
    inside = padded[reach : reach + height, reach : reach + width]
    inside[:] = np.arange(height * width).reshape(height, width)
    views = np.lib.stride_tricks.sliding_window_view(padded, (level.kernel, level.kernel))
    kept = views[:: level.stride, :: level.stride]
    return np.ascontiguousarray(kept.reshape(-1, level.kernel * level.kernel))
