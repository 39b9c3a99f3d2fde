"""Test cases for the correlation kernels: random sizes, and inputs made to break them.

Every case is judged by the float64 reference. ``run(query, support, sizes)`` is any implementation
of the op; nothing here needs a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsnet_trt.benchmarks.limits.plugin_blocks import square_mask
from hsnet_trt.runtime.matching.packing import columns_of, join_columns
from hsnet_trt.trt_plugins.reference import hyper_correlation
from hsnet_trt.trt_plugins.sizes import CorrelationSizes, row_length

Arrays = tuple[NDArray[Any], ...]  # query, columns, positions, counts
Run = Callable[[NDArray[Any], NDArray[Any], CorrelationSizes], "tuple[NDArray[Any], NDArray[Any]]"]
# Rounding to FP16 alone gives 2.4e-4 near 1; tensor cores truncate their FP32 sums.
TOLERANCE = {"float16": 6e-4, "float32": 3e-6}


@dataclass(frozen=True)
class Case:
    """One input: its name, both tensors and the op's attributes."""

    name: str
    query: NDArray[Any]
    support: NDArray[Any]
    sizes: CorrelationSizes


def draw(
    random: np.random.Generator,
    shape: tuple[int, int, int, int],
    sizes: CorrelationSizes,
    keep: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw raw query and masked, normalised support for (B, S, L, C); keep: [hs * ws]."""
    batch, supports, layers, channels = shape
    query = random.normal(0.2, 2.0, (batch, layers, channels, sizes.query_positions))
    support = random.normal(0.2, 2.0, (supports, layers, channels, sizes.support_positions))
    if keep is not None:
        support = np.where(keep, support, 0.0)
    support /= np.sqrt((support**2).sum(axis=2, keepdims=True)) + 1e-5
    return query, support


def op_inputs(query: NDArray[Any], support: NDArray[Any]) -> Arrays:
    """The op's inputs (query, columns, positions, counts) for whole features [..., positions]."""
    query, support = (
        np.pad(x, [(0, 0)] * 3 + [(0, row_length(x.shape[3]) - x.shape[3])])
        for x in (query, support)
    )
    return query, *join_columns([columns_of(whole) for whole in support])


def random_cases(dtype: str, count: int, largest: int, seed: int = 0) -> Iterator[Case]:
    """Yield odd and even sizes up to ``largest`` a side; every fourth fills a GPU's processors."""
    random = np.random.default_rng(seed)
    for index in range(count):
        many = index % 4 == 3
        sides = random.integers(1, (largest // 2 if many else largest) + 1, 4)
        query_h, query_w, support_h, support_w = (int(side) for side in sides)
        stride = int(random.integers(1, 5))
        sizes = CorrelationSizes(query_h, query_w, support_h, support_w, stride)
        batch, supports = (int(n) for n in random.integers(1, 4, 2))
        layers = 23 if many else int(random.integers(1, 4))
        channels = int(random.choice([1, 8, 13, 32, 72] if many else [1, 16, 45, 64, 200]))
        area = [None, 0.0, 0.001, 0.05, 0.2, 0.5][int(random.integers(6))]
        keep = None if area is None else square_mask(sizes, area)
        query, support = draw(random, (batch, supports, layers, channels), sizes, keep)
        name = f"random {index}: {batch}x{supports} L{layers} C{channels} {sizes} area {area}"
        yield Case(name, query.astype(dtype), support.astype(dtype), sizes)


def adversarial_cases(dtype: str) -> Iterator[Case]:
    """Yield extreme norms, NaN, no columns, -0, scattered columns, wide gaps."""
    random = np.random.default_rng(1)
    sizes = CorrelationSizes(11, 9, 26, 27, 4)
    sparse = np.zeros(sizes.support_positions, np.bool_)
    sparse[random.permutation(sparse.size)[:90]] = True
    sparse[200:500] = False
    query, support = (a.astype(dtype) for a in draw(random, (2, 2, 2, 40), sizes, sparse))
    yield Case("scattered columns and a wide gap", query, support, sizes)
    yield Case("no column", query, np.zeros_like(support), sizes)
    yield Case("zero query", np.zeros_like(query), support, sizes)
    negative = np.where(support == 0, np.array(-0.0, dtype), support)
    yield Case("-0 outside the mask", query, negative, sizes)
    scales = (1e-4, 4e3) if dtype == "float16" else (1e-17, 1e17)
    for scale in scales:
        yield Case(f"query times {scale:g}", query * np.array(scale, dtype), support, sizes)
    column = int(np.flatnonzero(sparse)[5])
    broken = support.copy()
    broken[0, 1, 3, column] = np.nan
    yield Case("NaN in a support column", query, broken, sizes)
    edge = np.zeros(sizes.support_positions, np.bool_)
    edge[[0, -1]] = True
    query, support = (a.astype(dtype) for a in draw(random, (1, 1, 1, 24), sizes, edge))
    yield Case("first and last position only", query, support, sizes)
    # 276 large FP16 tiles: with 132 multiprocessors the last ones are cut into four.
    sizes = CorrelationSizes(19, 20, 21, 20, 4)
    query, support = (a.astype(dtype) for a in draw(random, (1, 1, 23, 8), sizes, None))
    yield Case("tiles that a last wave would have", query, support, sizes)


def judge(case: Case, run: Run) -> tuple[float, str | None]:
    """The largest error of a case, and what is wrong with it (None if nothing is)."""
    outputs = run(case.query, case.support, case.sizes)
    expected = hyper_correlation(case.query, case.support, case.sizes)
    worst = 0.0
    for name, found, wanted in zip(("full", "pruned"), outputs, expected, strict=True):
        if found.shape != wanted.shape:
            return np.inf, f"{name} has shape {found.shape}, expected {wanted.shape}"
        if not np.array_equal(np.isnan(found), np.isnan(wanted)):
            return np.inf, f"{name} has NaN where it should not, or none where it should"
        error = np.nan_to_num(np.abs(found.astype(np.float64) - wanted), nan=0.0)
        worst = max(worst, float(error.max()))
    limit = TOLERANCE[case.query.dtype.name]
    return worst, None if worst <= limit else f"off by {worst:.2e}, allowed {limit:.0e}"


def skipping_differs(dtype: str, run: Run) -> str | None:
    """Compare a masked run with a dense one on the kept columns: None if bit-identical."""
    random = np.random.default_rng(2)
    sizes = CorrelationSizes(21, 19, 24, 25, 2)
    keep = square_mask(sizes, 0.3)
    query, dense = (a.astype(dtype) for a in draw(random, (1, 2, 3, 72), sizes, None))
    everything, _ = run(query, dense, sizes)
    skipping, _ = run(query, np.where(keep, dense, np.zeros_like(dense)), sizes)
    grid = keep.reshape(sizes.support_h, sizes.support_w)
    if not np.array_equal(skipping[..., grid], everything[..., grid]):
        return "skipping zero columns changed other columns"
    return "a skipped column is not zero" if skipping[..., ~grid].any() else None


def survives_anything(dtype: str, run: Callable[[Arrays, CorrelationSizes], Arrays]) -> str | None:
    """Run on random bits, as TensorRT's builder may: it must finish, twice with the same result."""
    random = np.random.default_rng(3)
    sizes = CorrelationSizes(13, 17, 19, 14, 4)
    bits = np.uint16 if dtype == "float16" else np.uint32
    query, columns = (
        random.integers(0, np.iinfo(bits).max, (2, 2, 50, row_length(n)), bits, endpoint=True)
        for n in (sizes.query_positions, sizes.support_positions)
    )
    positions = random.integers(-(2**31), 2**31, (2, columns.shape[3])).astype(np.int32)
    for counts in ((2**31 - 1, -(2**31)), (250, 17)):
        inputs = (query.view(dtype), columns.view(dtype), positions, np.array(counts, np.int32))
        first, second = (run(inputs, sizes) for _ in range(2))
        if not all(
            np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second, strict=True)
        ):
            return "two runs on the same bits differ"
    return None
