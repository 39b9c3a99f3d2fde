"""The counters of memory accesses, against Nsight Compute on an H100 and against plain patterns."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.kernels.correlation_cases import blob
from helpers.kernels.counted import FIGURES, KINDS, Counts, compile_counted, counting_compiler
from helpers.kernels.emulated import aligned, ints

from hsnet_trt.trt_plugins import occupancy
from hsnet_trt.trt_plugins.compile_kernels import KernelFigures
from hsnet_trt.trt_plugins.occupancy import ARCHITECTURES, LEVELS
from hsnet_trt.trt_plugins.plan import Launch
from hsnet_trt.trt_plugins.sizes import CorrelationSizes

needs_gcc = pytest.mark.skipif(counting_compiler() is None, reason="no g++ to count with")

PROFILE = Path(__file__).parents[2] / "benchmarks" / "results" / "h100-profile.json"


def profiled() -> dict[tuple[str, int, float | None], tuple[int, int]]:
    """All global sectors and the excess of them, by Nsight Compute on an H100."""
    found = {}
    for row in json.loads(PROFILE.read_text(encoding="utf-8"))["launches"]:
        level, mask = row["case"].removeprefix("level ").split(", ")
        area = None if mask == "no mask" else float(mask.split()[0]) / 100
        sectors = (row["global_sectors"], row["excess_global_sectors"])
        found[row["kernel"].removesuffix("_f16"), int(level), area] = sectors
    return found


@needs_gcc
@pytest.mark.parametrize(("level", "area"), [(3, None), (2, 0.2)])
def test_sectors_are_those_that_the_profiler_counted(
    level: int, area: float | None, tmp_path: Path
) -> None:
    layers, channels, side, stride = LEVELS[level]
    sizes = CorrelationSizes(side, side, side, side, stride)
    shape = (1, layers, channels, sizes.query_positions)
    ones = np.ones(shape, np.float16)
    kept = blob(sizes, area) if area else np.ones(sizes.support_positions, np.bool_)
    arrays = [aligned(shape, np.float16, ones), aligned(shape, np.float16, ones * kept)]
    workspace, _ = aligned((2 * ones.size + 10**6,), np.float16)
    counts = np.zeros((2, len(KINDS), FIGURES), np.int64)
    # Level 3 whole; of level 2 every 7th block of prepare (632 blocks) and no gather.
    every = (1, 1) if level == 3 else (7, 10**6)
    library = compile_counted("profiled.cpp", 800, tmp_path)
    status = library.hsnet_count_profiled(
        ints(sizes, (1, 1, layers, channels), (0, 0)),
        (ctypes.c_int64 * 2)(*every),
        *(ctypes.c_void_p(array.ctypes.data) for array, _ in arrays),
        ctypes.c_void_p(workspace.ctypes.data),
        ctypes.c_int64(workspace.nbytes),
        ctypes.c_void_p(counts.ctypes.data),
    )
    assert status == 0
    known = profiled()
    for kernel, figures, of in zip(("prepare", "gather"), counts, every, strict=True):
        if of < 10**6:
            found = Counts(figures)
            sectors, excess = known[kernel, level, area]
            assert found.sectors * of == pytest.approx(sectors, rel=0.1)
            assert found.excess_sectors * of == pytest.approx(excess, rel=0.1)


@needs_gcc
def test_patterns_with_known_costs(tmp_path: Path) -> None:
    library = compile_counted("patterns.cpp", 800, tmp_path)
    memory, _ = aligned((4096,), np.float32)

    def count(pattern: int) -> Counts:
        figures = np.zeros((len(KINDS), FIGURES), np.int64)
        library.hsnet_count_pattern(
            pattern, ctypes.c_void_p(memory.ctypes.data), ctypes.c_void_p(figures.ctypes.data)
        )
        return Counts(figures)

    side_by_side = count(0)
    assert (side_by_side.sectors, side_by_side.excess_sectors) == (4, 0)
    moved_by_two_bytes = count(1).of("global load")
    assert (moved_by_two_bytes.sectors, moved_by_two_bytes.excess_sectors) == (5, 1)
    every_eighth_float = count(2)
    assert (every_eighth_float.sectors, every_eighth_float.excess_sectors) == (32, 28)
    one_bank = count(3)
    assert (one_bank.wavefronts, one_bank.excess_wavefronts) == (32, 31)
    vectors_side_by_side = count(4)
    assert (vectors_side_by_side.wavefronts, vectors_side_by_side.excess_wavefronts) == (4, 0)
    same_word = count(5).of("shared load")
    assert (same_word.wavefronts, same_word.excess_wavefronts) == (1, 0)
    # Half of the lanes go twice through a loop, in which some go left and some right.
    parted = count(6)
    assert (parted.instructions, parted.sectors) == (3, 6)
    rows_of_128_bytes = count(7).of("matrices")
    assert (rows_of_128_bytes.wavefronts, rows_of_128_bytes.excess_wavefronts) == (32, 28)
    copied = count(8).of("copy")
    assert (copied.sectors, copied.excess_sectors) == (32, 16)
    assert (copied.wavefronts, copied.excess_wavefronts) == (4, 0)


def test_occupancy_is_what_the_profiler_says() -> None:
    # Nsight Compute on the H100: registers, blocks of the grid, threads -> waves, warps' share.
    chip = ARCHITECTURES[90]
    for registers, shared, grid, threads, waves, share in (
        (32, 2560, (632, 1, 1), 512, 1.20, 1.0),
        (52, 1056, (8, 4, 1), 256, 0.06, 0.5),
        (128, 49152, (400, 4, 1), 256, 6.06, 0.25),
    ):
        figures = KernelFigures(90, "any", registers, shared, 0)
        full = occupancy.occupancy(figures, Launch("any", grid, threads), chip, 132)
        assert full.waves == pytest.approx(waves, abs=0.005)
        assert full.warps_share == share


def test_the_occupancy_table_has_every_level_and_type() -> None:
    plans = [occupancy.level_plan(level, size) for level in LEVELS for size in (2, 4)]
    names = {
        launch.kernel.removeprefix("hsnet_")
        for plan in plans
        for chip in ARCHITECTURES.values()
        for launch in [plan.launch(chip.count)]
    }
    figures = [KernelFigures(a, name, 64, 1024, 0) for a in ARCHITECTURES for name in names]
    text = occupancy.table(sorted(ARCHITECTURES), figures)
    for name in names:
        assert f"| {name} |" in text
