"""The CUDA kernels' own source, run on the CPU thread by thread, against NumPy in float64.

Architectures differ in their inner product: 700 multiplies halves without tensor cores, 750 with
the smaller instruction and plain copies, 800 with asynchronous copies and floats as three TF32
products, 890 floats without tensor cores.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from helpers.kernels.correlation_cases import blob, features, in_columns, in_rows
from helpers.kernels.emulated import KERNELS, EmulatedKernels, compiler
from hypothesis import given, settings
from hypothesis import strategies as st

from hsnet_trt.trt_plugins.plan import TILES, Plan, Problem
from hsnet_trt.trt_plugins.reference import hyper_correlation
from hsnet_trt.trt_plugins.sizes import ROW_UNIT, CorrelationSizes

pytestmark = [
    pytest.mark.skipif(compiler() is None, reason="no C++ compiler to emulate the kernels with"),
    pytest.mark.xdist_group("emulated_kernels"),
]

TOLERANCE = {"float16": 6e-4, "float32": 6e-7}  # rounding to FP16 alone is 2.4e-4 near 1
LIBRARIES: dict[int, EmulatedKernels] = {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("emulated")


def kernels(architecture: int, folder: Any) -> EmulatedKernels:
    if architecture not in LIBRARIES:
        LIBRARIES[architecture] = EmulatedKernels(architecture, folder)
    return LIBRARIES[architecture]


def check(
    library: EmulatedKernels, query: Any, support: Any, sizes: CorrelationSizes, **how: Any
) -> None:
    full, pruned = library.run(query, support, sizes, **how)
    wanted_full, wanted_pruned = hyper_correlation(query, support, sizes)
    tolerance = TOLERANCE[query.dtype.name]
    np.testing.assert_allclose(full, wanted_full, rtol=0, atol=tolerance)
    np.testing.assert_allclose(pruned, wanted_pruned, rtol=0, atol=tolerance)
    assert not np.signbit(full).any(), "zeros are positive"


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("architecture", [700, 750, 800, 890])
def test_every_inner_product_is_the_reference(
    architecture: int, dtype: str, tiles: str, folder: Any
) -> None:
    # Several tiles in both directions, channels that fill no stage, images and layers to confuse.
    sizes = CorrelationSizes(13, 11, 12, 13, 2)
    query, support = features(architecture, (1, 2, 1, 51), sizes, dtype, blob(sizes, 0.6))
    check(kernels(architecture, folder), query, support, sizes, tiles=tiles)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(*[st.integers(1, 2)] * 3, st.sampled_from([1, 8, 13, 32, 40])),
    spatial=st.tuples(*[st.integers(1, 13)] * 4),
    stride=st.integers(1, 4),
    area=st.sampled_from([None, 0.0, 0.001, 0.1, 0.4]),
    dtype=st.sampled_from(["float16", "float32"]),
    tiles=st.sampled_from(list(TILES)),
)
def test_any_size_and_mask(
    *,
    folder: Any,
    seed: int,
    shape: tuple[int, int, int, int],
    spatial: tuple[int, int, int, int],
    stride: int,
    area: float | None,
    dtype: str,
    tiles: str,
) -> None:
    sizes = CorrelationSizes(*spatial, stride)
    mask = None if area is None else blob(sizes, area)
    query, support = features(seed, shape, sizes, dtype, mask)
    check(kernels(800, folder), query, support, sizes, tiles=tiles, seed=seed)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_scattered_columns_leave_wide_gaps(dtype: str, folder: Any) -> None:
    # Windows without a column, tiles that span several windows, and a last tile of one column.
    sizes = CorrelationSizes(6, 11, 24, 31, 3)
    mask = np.zeros(sizes.support_positions, np.bool_)
    mask[np.random.default_rng(0).permutation(mask.size)[:60]] = True
    mask[200:450] = False
    mask[[3, 700, 740, 741, 742, 743]] = True
    query, support = features(2, (1, 1, 2, 16), sizes, dtype, mask)
    for tiles in TILES:
        check(kernels(800, folder), query, support, sizes, tiles=tiles)


@pytest.mark.parametrize("start", [0, 16])
@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_windows_of_columns(dtype: str, tiles: str, start: int, folder: Any) -> None:
    # 437 and 551 positions: several windows, and no two rows of the output alike in their sectors.
    # Addresses are multiples of 16, not of 32.
    sizes = CorrelationSizes(19, 23, 29, 19, 3)
    for area in (None, 0.25):
        mask = None if area is None else blob(sizes, area)
        query, support = features(10, (1, 2, 2, 141), sizes, dtype, mask)
        check(kernels(800, folder), query, support, sizes, tiles=tiles, start=start)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_may_be_longer_than_they_must(dtype: str, folder: Any) -> None:
    sizes = CorrelationSizes(12, 11, 8, 9, 2)
    query, support = features(3, (1, 2, 2, 48), sizes, dtype, blob(sizes, 0.6))
    columns, positions, counts = in_columns(support)
    longer = [np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, 48)]) for a in (query, columns, positions)]
    longer[0] = longer[0][..., :176]
    found = kernels(800, folder).run_columns(*longer, counts, sizes, tiles="small")
    for a, b in zip(found, hyper_correlation(query, support, sizes), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_skipping_changes_no_bit(dtype: str, tiles: str, folder: Any) -> None:
    sizes = CorrelationSizes(9, 10, 14, 15, 2)
    mask = blob(sizes, 0.3)
    query, dense = features(4, (1, 1, 2, 40), sizes, dtype)
    masked = np.where(mask, dense, np.zeros_like(dense))
    everything, _ = kernels(800, folder).run(query, dense, sizes, tiles=tiles)
    skipping, _ = kernels(800, folder).run(query, masked, sizes, tiles=tiles)
    kept = mask.reshape(sizes.support_h, sizes.support_w)
    np.testing.assert_array_equal(skipping[..., kept], everything[..., kept])
    assert not skipping[..., ~kept].any()


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_card_with_more_processors_changes_no_bit(dtype: str, tiles: str, folder: Any) -> None:
    # Few columns on many processors: large tiles of half become small ones, in the same grid.
    sizes = CorrelationSizes(13, 11, 20, 20, 3)
    query, support = features(12, (2, 1, 2, 70), sizes, dtype, blob(sizes, 0.2))
    how = {"tiles": tiles, "start": 16}
    few, many = (
        kernels(800, folder).run(query, support, sizes, **how, multiprocessors=count)
        for count in (1, 1000)
    )
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a, b)
    check(kernels(800, folder), query, support, sizes, tiles=tiles, multiprocessors=1000)


@pytest.mark.parametrize(
    ("layers", "multiprocessors", "area", "grid"),
    [(1, 7, None, 22), (2, 15, None, 38), (3, 23, None, 57), (2, 11, 0.9, 32)],
)
def test_tiles_that_a_last_wave_would_have_are_cut_and_no_bit_changes(
    layers: int, multiprocessors: int, area: float | None, grid: int, folder: Any
) -> None:
    # Rows and columns end within a tile, so that some quarters have nothing. Without a mask no
    # block is left for zeros; with this one two of 32 are, and 24 tiles have columns.
    sizes = CorrelationSizes(23, 19, 21, 20, 3)
    mask = None if area is None else blob(sizes, area)
    plan = Plan(sizes, 1, 1, layers, 70, 2, 16, 16)
    tiles = layers * 4 * -(-int(sizes.support_positions if mask is None else mask.sum()) // 128)
    cut = plan.cut_tiles(tiles, multiprocessors)
    assert 0 < tiles + 3 * cut <= grid
    assert cut > 0
    assert np.prod(plan.correlate("large", multiprocessors).grid) == grid
    query, support = features(14, (1, 1, layers, 70), sizes, "float16", mask)
    whole, quarters = (
        kernels(800, folder).run(query, support, sizes, tiles="large", multiprocessors=count)
        for count in (0, multiprocessors)
    )
    for a, b in zip(whole, quarters, strict=True):
        np.testing.assert_array_equal(a, b)
    check(
        kernels(800, folder),
        query,
        support,
        sizes,
        tiles="large",
        multiprocessors=multiprocessors,
    )


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("scale", [1e-4, 60.0, 4e3])
def test_small_and_large_norms(dtype: str, scale: float, folder: Any) -> None:
    # 64 channels of 4e3: the sum of squares is 1e9, far beyond FP16.
    sizes = CorrelationSizes(4, 5, 6, 5, 1)
    query, support = features(5, (1, 1, 1, 64), sizes, dtype)
    check(kernels(800, folder), query * query.dtype.type(scale), support, sizes, tiles="small")


def test_huge_floats_stay_within_single_precision(folder: Any) -> None:
    sizes = CorrelationSizes(4, 5, 6, 5, 1)
    query, support = features(6, (1, 1, 1, 64), sizes, "float32")
    for scale in (1e17, 1e-17):
        check(kernels(800, folder), query * np.float32(scale), support, sizes, tiles="large")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_nan_stays_in_its_row_and_column(dtype: str, folder: Any) -> None:
    sizes = CorrelationSizes(4, 5, 5, 6, 1)
    query, support = features(7, (1, 1, 1, 24), sizes, dtype, blob(sizes, 0.4))
    column = int(np.flatnonzero((support[0, 0] != 0).any(axis=0))[2])
    query[0, 0, 5, 3] = np.nan
    support[0, 0, 1, column] = np.nan
    full, pruned = kernels(800, folder).run(query, support, sizes, tiles="small")
    found = np.isnan(full.reshape(20, 30))
    expected = np.zeros_like(found)
    expected[3, (support[0, 0] != 0).any(axis=0)] = True
    expected[:, column] = True
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.isnan(pruned.reshape(30, 20)), expected.T)


@pytest.mark.parametrize("tiles", TILES)
def test_any_positions_and_counts_stay_inside(tiles: str, folder: Any) -> None:
    # As TensorRT's builder may give them when it times; memory behind the tensors is looked at.
    sizes = CorrelationSizes(5, 7, 9, 11, 3)
    random = np.random.default_rng(8)
    query, support = features(8, (2, 3, 1, 20), sizes, "float16")
    columns, positions, _ = in_columns(support)
    for counts in ([-(2**31), 2**31 - 1, 50], [112, 99, 1]):
        bits = random.integers(-(2**31), 2**31, positions.shape)
        kernels(800, folder).run_columns(
            in_rows(query),
            columns,
            bits.astype(np.int32),
            np.array(counts, np.int32),
            sizes,
            tiles=tiles,
            multiprocessors=1000,
        )


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_warps_does_not_matter(seed: int, folder: Any) -> None:
    # Copies land as late and other warps run as far ahead as barriers allow: a missing one shows.
    sizes = CorrelationSizes(12, 12, 13, 12, 4)
    query, support = features(9, (1, 1, 1, 120), sizes, "float16", blob(sizes, 0.5))
    check(kernels(800, folder), query, support, sizes, tiles="large", seed=seed)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 4)] * 2, st.integers(1, 23), st.integers(1, 2048)),
    spatial=st.tuples(*[st.integers(1, 60)] * 4),
    stride=st.integers(1, 4),
    element=st.sampled_from([2, 4]),
    multiprocessors=st.integers(1, 200),
)
def test_the_plan_in_python_is_the_plan_in_cpp(
    *,
    folder: Any,
    shape: tuple[int, int, int, int],
    spatial: tuple[int, int, int, int],
    stride: int,
    element: int,
    multiprocessors: int,
) -> None:
    plan = Plan(CorrelationSizes(*spatial, stride), *shape, element, 16, 16)
    launch = plan.launch(multiprocessors)
    expected = [*launch.grid, launch.threads]
    expected += [list(TILES).index(plan.tiles(multiprocessors)), ctypes.sizeof(Problem)]
    assert kernels(800, folder).plan(plan.sizes, shape, element, multiprocessors) == expected


def test_rows_are_of_the_same_unit_in_cpp() -> None:
    text = (KERNELS / "kernels" / "plan.h").read_text()
    assert f"constexpr int kRowUnit = {ROW_UNIT};" in text
