"""The kernels with their memory accesses counted, on the CPU: the ruler for machines without a GPU.

``tests/helpers/kernels/emulator/counters.h`` says what is counted and how.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from helpers.kernels.emulated import KERNELS, SOURCE, addresses, aligned, ints
from numpy.typing import NDArray

from hsnet_trt.trt_plugins.plan import TILES
from hsnet_trt.trt_plugins.sizes import CorrelationSizes

KINDS = (
    "place",
    "global load",
    "global store",
    "shared load",
    "shared store",
    "copy",
    "matrices",
)  # counters::Kind
FIGURES = 5  # of counters::Totals


def counting_compiler() -> str | None:
    """GCC: the instrumentation that is used is its own."""
    return shutil.which("g++")


@dataclass(frozen=True)
class Counts:
    """What one kernel asked of memory: [7 kinds, 5 figures], as counters.h has them."""

    figures: NDArray[np.int64]

    def of(self, kind: str) -> Counts:
        """Of one kind of access alone."""
        kept = np.zeros_like(self.figures)
        kept[KINDS.index(kind)] = self.figures[KINDS.index(kind)]
        return Counts(kept)

    @property
    def instructions(self) -> int:
        return int(self.figures[:, 0].sum())

    @property
    def sectors(self) -> int:
        return int(self.figures[:, 1].sum())

    @property
    def excess_sectors(self) -> int:
        return self.sectors - int(self.figures[:, 2].sum())

    @property
    def wavefronts(self) -> int:
        return int(self.figures[:, 3].sum())

    @property
    def excess_wavefronts(self) -> int:
        return self.wavefronts - int(self.figures[:, 4].sum())


def compile_counted(source: str, architecture: int, folder: Path) -> ctypes.CDLL:
    """One of the emulator's sources, every access of it reported to counters.cpp."""
    library = folder / f"{source.removesuffix('.cpp')}_{architecture}.so"
    parts = [folder / f"{library.stem}.o", folder / f"{library.stem}_counters.o"]
    # -Og keeps the order of the source, which stands for where a GPU's lanes meet again.
    counted = ["-Og", "-fno-reorder-blocks", "-fno-threadsafe-statics", "-fno-gnu-unique"]
    counted += ["-fsanitize=thread", "-fsanitize-coverage=trace-pc", "-DHSNET_COUNTS"]
    counted += ["-U_FORTIFY_SOURCE", f"-D__CUDA_ARCH__={architecture}", f"-I{KERNELS}"]
    counted += ["-x", "c++", "-include", "emulator.h", str(SOURCE / source)]
    common = [str(counting_compiler()), "-std=c++17", "-fPIC", "-w", f"-I{SOURCE}"]
    for command in (
        [*common, "-c", *counted, "-o", str(parts[0])],
        [*common, "-c", "-O2", str(SOURCE / "counters.cpp"), "-o", str(parts[1])],
        [*common, "-shared", *map(str, parts), "-o", str(library)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


class CountedKernels:
    """The op's kernel, counted as a GPU of one architecture would run it."""

    def __init__(self, architecture: int, folder: Path, source: str = "counted.cpp") -> None:
        self._library = compile_counted(source, architecture, folder)

    def count(
        self,
        sizes: CorrelationSizes,
        shape: tuple[int, int, int, int],
        dtype: Any,
        mask: NDArray[np.bool_] | None = None,
        *,
        tiles: str,
        every: int = 1,
        start: int = 0,
        unit: int = 16,
        multiprocessors: int = 0,
    ) -> Counts:
        """Return the kernel's counts.

        Args:
            sizes: the op's attributes.
            shape: B, S, L, C.
            dtype: of query, columns and outputs.
            mask: which support positions are not zero; all where None.
            tiles: the form of the product, a key of TILES.
            every: every which block is run and counted.
            start: bytes between a multiple of 256 and the start of every tensor.
            unit: elements of which the rows are a multiple.
            multiprocessors: of the GPU, as the kernel believes.
        """
        batch, supports, layers, channels = shape
        kept = np.arange(sizes.support_positions) if mask is None else np.flatnonzero(mask)
        query_row, row = (
            -(-n // unit) * unit for n in (sizes.query_positions, sizes.support_positions)
        )
        positions = np.zeros((supports, row), np.int32)
        positions[:, : len(kept)] = kept
        inputs = [
            np.ones((batch, layers, channels, query_row), dtype),
            np.ones((supports, layers, channels, row), dtype),
            positions,
            np.full(supports, len(kept), np.int32),
        ]
        pairs, pruned = batch * supports, sizes.pruned_h * sizes.pruned_w
        outputs = [
            (pairs * sizes.query_positions, layers, sizes.support_positions),
            (pairs * pruned, layers, sizes.query_positions),
        ]
        arrays = [aligned(array.shape, array.dtype, array, start) for array in inputs]
        arrays += [aligned(output, dtype, None, start) for output in outputs]
        counts = np.zeros((len(KINDS), FIGURES), np.int64)
        status = self._library.hsnet_count(
            ints(sizes, shape, (query_row, row), multiprocessors),
            int(np.dtype(dtype) == np.float16),
            list(TILES).index(tiles),
            ctypes.c_int64(every),
            addresses(arrays),
            ctypes.c_void_p(counts.ctypes.data),
        )
        assert status == 0, "an access outside of the tensors"
        return Counts(counts)
