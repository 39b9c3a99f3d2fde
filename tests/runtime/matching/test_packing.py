"""Supports without their zeros: the same afterwards; and packed, as NumPy convolves them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsnet_trt.runtime.bundle.manifest import PackedLevel
from hsnet_trt.runtime.matching.packing import (
    compress,
    expand,
    index_windows,
    pack,
    side_by_side,
    views,
)
from hsnet_trt.runtime.matching.running import match_calls

LEVELS = (PackedLevel((7, 9), 5, 4), PackedLevel((4, 5), 5, 4), PackedLevel((3, 3), 3, 2))
MASKS = [0.0, 0.1, 0.5, 1.0]  # share of the positions


def encoded(rng: np.random.Generator, shares: list[list[float]]) -> dict[str, np.ndarray]:
    """`shares`: by level and shot, how much lies under the mask."""
    made = {}
    for name, level, mine in zip(("s2", "s3", "s4"), LEVELS, shares, strict=True):
        positions = level.grid[0] * level.grid[1]
        values = rng.normal(size=(len(mine), 2, 3, positions)).astype(np.float32)
        kept = rng.random((len(mine), 1, 1, positions)) < np.reshape(mine, (-1, 1, 1, 1))
        made[name] = values * kept
    return made


def windows_of(plane: np.ndarray, level: PackedLevel) -> np.ndarray:
    """[L,C,h*w] -> [h'*w',k*k,L,C], with zeros off the grid: what a convolution reads."""
    reach = level.kernel // 2
    image = plane.reshape(*plane.shape[:2], *level.grid)
    image = np.pad(image, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    found = [
        image[:, :, y : y + level.kernel, x : x + level.kernel].reshape(*plane.shape[:2], -1)
        for y in range(0, level.grid[0], level.stride)
        for x in range(0, level.grid[1], level.stride)
    ]
    return np.stack(found).transpose(0, 3, 1, 2)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), count=st.integers(1, 3), seed=st.integers(0, 99))
def test_packed_windows_are_those_of_the_whole(data: st.DataObject, count: int, seed: int) -> None:
    mine = [[data.draw(st.sampled_from(MASKS)) for _ in range(count)] for _ in LEVELS]
    whole = encoded(np.random.default_rng(seed), mine)
    shots = compress(whole)
    for name, dense in expand(shots).items():
        np.testing.assert_array_equal(dense, whole[name])
    packed = pack(shots, LEVELS)
    for name, level in zip(("2", "3", "4"), LEVELS, strict=True):
        rows, windows, places = (packed[kind + name] for kind in "swp")
        assert not rows[:, -1].any()
        for shot in range(count):
            found = rows[:, windows[places[shot]]].transpose(1, 2, 0, 3)  # [h'*w',k*k,L,C]
            np.testing.assert_array_equal(found, windows_of(whole["s" + name][shot], level))
    for ours, again in zip(shots, views(packed, shots), strict=True):
        for name in ours:
            np.testing.assert_array_equal(ours[name].values, again[name].values)
            assert np.shares_memory(again[name].values, packed[name]) or not ours[name].at.size


@settings(max_examples=30, deadline=None)
@given(data=st.data(), count=st.integers(1, 3), seed=st.integers(0, 99))
def test_columns_side_by_side(data: st.DataObject, count: int, seed: int) -> None:
    """Put back to their positions, they are the whole; behind them there is nothing."""
    mine = [[data.draw(st.sampled_from(MASKS)) for _ in range(count)] for _ in LEVELS]
    whole = encoded(np.random.default_rng(seed), mine)
    packed = side_by_side(compress(whole))
    for level in "234":
        values, positions, counts = (packed[kind + level] for kind in "san")
        assert values.shape == whole["s" + level].shape
        assert positions.shape == (count, values.shape[3])
        assert positions.dtype == counts.dtype == np.int32
        again = np.zeros_like(whole["s" + level])
        for shot, n in enumerate(counts):
            assert (np.diff(positions[shot, :n]) > 0).all()
            assert not values[shot, :, :, n:].any()
            assert values[shot, :, :, :n].any(axis=(0, 1)).all()
            again[shot][:, :, positions[shot, :n]] = values[shot, :, :, :n]
        np.testing.assert_array_equal(again, whole["s" + level])


@pytest.mark.parametrize(("share", "least"), [(0.0, 1), (1.0, 6)])
def test_no_window_is_there_twice_for_nothing(share: float, least: int) -> None:
    """An empty mask leaves one window, a full one every window and no more."""
    level = LEVELS[0]
    kept = np.flatnonzero(np.random.default_rng(0).random(63) < share)
    windows, places = index_windows([kept, kept], level)
    assert windows.shape == (2 * least, 25)
    assert sorted(set(places[0])) == list(range(least))
    assert sorted(set(places[1])) == list(range(least, 2 * least))
    assert windows.max() == 2 * len(kept)


def test_one_position_touches_only_the_windows_it_lies_in() -> None:
    """Position 3, 5 of 7 x 9 lies in the windows centred on 4, 4 alone: 2..6, 2..6."""
    windows, places = index_windows([np.array([3 * 9 + 5])], LEVELS[0])
    assert len(windows) == 2
    assert places[0].tolist() == [0, 0, 0, 0, 1, 0]
    assert windows[0].tolist() == [1] * 25
    assert np.flatnonzero(windows[1] == 0).tolist() == [1 * 5 + 3]


def test_packing_holds_nothing_twice() -> None:
    """The calls of `match` take the place of the shots they were made of."""
    whole = encoded(np.random.default_rng(1), [[0.6, 0.8, 1.0]] * 3)
    shots = compress(whole)
    classes = [shots[:1], shots[1:]]
    runner = SimpleNamespace(packing=LEVELS, columns=False, limits=SimpleNamespace(supports=2))
    calls = match_calls(runner, classes)  # type: ignore[arg-type]
    assert [len(call["p2"]) for call in calls] == [2, 1]
    held = [*classes[0], *classes[1]]
    for shot, call in zip(held, (calls[0], calls[0], calls[1]), strict=True):
        for level in ("s2", "s3", "s4"):
            assert np.shares_memory(shot[level].values, call[level])
    for name, dense in expand(held).items():
        np.testing.assert_array_equal(dense, whole[name])


@pytest.mark.parametrize("first", ["float16", "float32"])
def test_shots_of_two_types_keep_the_finer_one(first: str) -> None:
    """As where supports of an FP16 engine are loaded beside FP32 ones: none is rounded."""
    whole = encoded(np.random.default_rng(3), [[0.5, 0.5]] * 3)
    fine, coarse = compress(whole), compress({k: v.astype(np.float16) for k, v in whole.items()})
    both = [coarse[0], fine[1]] if first == "float16" else [fine[0], coarse[1]]
    wanted = 1 if first == "float16" else 0
    for name, dense in expand(both).items():
        np.testing.assert_array_equal(dense[wanted], whole[name][wanted])
    columns = side_by_side(both)
    for name in whole:
        shot = fine[wanted][name]
        found = columns[name][wanted][:, :, : len(shot.at)]
        np.testing.assert_array_equal(found, shot.values.transpose(0, 2, 1))
