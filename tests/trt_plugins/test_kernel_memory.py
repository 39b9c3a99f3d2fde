"""What the correlation kernels ask of memory, at the sizes of ResNet-50 at 400 x 400."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.kernels.correlation_cases import blob
from helpers.kernels.counted import CountedKernels, counting_compiler

from hsnet_trt.trt_plugins.occupancy import LEVELS
from hsnet_trt.trt_plugins.plan import TILES
from hsnet_trt.trt_plugins.sizes import CorrelationSizes

pytestmark = [
    pytest.mark.skipif(counting_compiler() is None, reason="no g++ to count with"),
    pytest.mark.xdist_group("counted_kernels"),
]

CASES = [(dtype, level) for dtype in ("float16", "float32") for level in LEVELS]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> CountedKernels:
    return CountedKernels(800, tmp_path_factory.mktemp("counted"))


@pytest.mark.parametrize("area", [None, 0.2])
@pytest.mark.parametrize(("dtype", "level"), CASES)
def test_hardly_a_sector_or_wavefront_is_excess(
    dtype: str, level: int, area: float | None, library: CountedKernels
) -> None:
    layers, channels, side, stride = LEVELS[level]
    sizes = CorrelationSizes(side, side, side, side, stride)
    mask = None if area is None else blob(sizes, area)
    tiles = {2: "large", 3: "large" if dtype == "float16" else "small", 4: "split"}[level]
    every = {2: 97, 3: 11, 4: 5}[level]
    found = library.count(
        sizes,
        (1, 1, layers, channels),
        dtype,
        mask,
        tiles=tiles,
        every=every,
        multiprocessors=132,
    )
    assert found.excess_sectors <= 0.05 * found.sectors
    assert found.excess_wavefronts <= 0.05 * found.wavefronts


@pytest.mark.parametrize("start", [0, 16])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("area", [None, 0.3])
def test_no_access_leaves_a_tensor(
    area: float | None, dtype: Any, start: int, library: CountedKernels
) -> None:
    # Odd rows; tensors that end within a piece of 16 bytes, and begin between two sectors.
    for sizes in (CorrelationSizes(9, 29, 27, 11, 2), CorrelationSizes(3, 5, 5, 7, 1)):
        mask = None if area is None else blob(sizes, area)
        for tiles in TILES:
            for multiprocessors in (0, 1000):
                library.count(
                    sizes,
                    (1, 1, 1, 37),
                    dtype,
                    mask,
                    tiles=tiles,
                    start=start,
                    multiprocessors=multiprocessors,
                )
