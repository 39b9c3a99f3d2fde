"""The CUDA kernels, compiled for the CPU with the emulator: one library per architecture."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from helpers.kernels.correlation_cases import in_columns, in_rows
from helpers.places import ROOT
from numpy.typing import NDArray

from hsnet_trt.trt_plugins.plan import TILES
from hsnet_trt.trt_plugins.sizes import CorrelationSizes

SOURCE = Path(__file__).parent / "emulator"
KERNELS = ROOT / "trt_plugins"


def compiler() -> str | None:
    """A C++ compiler that knows half precision, or None."""
    return shutil.which("g++") or shutil.which("clang++")


def compile_emulated(source: str, architecture: int, folder: Path) -> ctypes.CDLL:
    """One of the emulator's sources as a loaded library."""
    return ctypes.CDLL(str(build_emulated(source, architecture, folder)))


def build_emulated(source: str, architecture: int, folder: Path, *flags: str) -> Path:
    """One of the emulator's sources as a shared library, with more flags for the compiler."""
    library = folder / f"{source.removesuffix('.cpp')}_{architecture}.so"
    command = [str(compiler()), "-std=c++17", "-O1", "-fPIC", "-shared", "-w"]
    command += ["-U_FORTIFY_SOURCE"]  # its check of longjmp knows no fibers
    command += [f"-D__CUDA_ARCH__={architecture}", f"-I{KERNELS}", f"-I{SOURCE}"]
    command += ["-x", "c++", "-include", "emulator.h"]
    command += [*flags, str(SOURCE / source), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


class EmulatedKernels:
    """The kernels as a GPU of one architecture would take them (``__CUDA_ARCH__``)."""

    def __init__(self, architecture: int, folder: Path) -> None:
        self._library = compile_emulated("emulator.cpp", architecture, folder)
        self._library.hsnet_error.restype = ctypes.c_char_p

    def plan(
        self, sizes: CorrelationSizes, shape: tuple[int, ...], element: int, multiprocessors: int
    ) -> list[int]:
        """What plan.h says: the grid (x, y, z, threads), the number of Tiles, Problem's bytes."""
        figures = (ctypes.c_int64 * 6)()
        self._library.hsnet_plan(ints(sizes, shape, (16, 16), multiprocessors), element, figures)
        return list(figures)

    def run(
        self,
        query: NDArray[Any],
        support: NDArray[Any],
        sizes: CorrelationSizes,
        **how: Any,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Run on a whole support [S, L, C, n], of which the kernel is given the columns."""
        return self.run_columns(in_rows(query), *in_columns(support), sizes, **how)

    def run_columns(
        self,
        query: NDArray[Any],
        columns: NDArray[Any],
        positions: NDArray[Any],
        counts: NDArray[Any],
        sizes: CorrelationSizes,
        *,
        tiles: str,
        seed: int = 0,
        start: int = 0,
        multiprocessors: int = 0,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return full and pruned, which start as NaN.

        ``tiles`` is the form of the product, a key of TILES. Tensors begin ``start`` bytes behind a
        multiple of 256. The kernel believes the GPU to have so many ``multiprocessors``.
        """
        inputs = (query, columns, positions, counts)
        outputs = sizes.output_shapes(*(array.shape for array in inputs))
        arrays = [aligned(array.shape, array.dtype, array, start) for array in inputs]
        arrays += [aligned(shape, query.dtype, None, start) for shape in outputs]
        shape = (query.shape[0], columns.shape[0], query.shape[1], query.shape[2])
        status = self._library.hsnet_run(
            ints(sizes, shape, (query.shape[3], columns.shape[3]), multiprocessors),
            int(query.dtype == np.float16),
            list(TILES).index(tiles),
            ctypes.c_uint(seed),
            addresses(arrays),
        )
        assert status == 0, self._library.hsnet_error().decode()
        for _, behind in arrays:
            assert (behind.view(np.uint8) == 0xFF).all(), "written behind the end"
        return arrays[4][0], arrays[5][0]


def ints(
    sizes: CorrelationSizes,
    shape: tuple[int, ...],
    rows: tuple[int, int],
    multiprocessors: int = 0,
) -> Any:
    """What the emulator's entries take: B, S, L, C, attributes, lengths of rows, a GPU's size."""
    return (ctypes.c_int32 * 12)(*shape, *sizes.attributes().values(), *rows, multiprocessors)


def addresses(arrays: list[tuple[NDArray[Any], NDArray[Any]]]) -> Any:
    """Of arrays that ``aligned`` made."""
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array, _ in arrays))


def aligned(
    shape: tuple[int, ...], dtype: Any, values: NDArray[Any] | None = None, start: int = 0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """An array ``start`` bytes behind a 256-byte border, all NaN, and the 64 NaN behind its end."""
    count, item = int(np.prod(shape)), np.dtype(dtype).itemsize
    raw = np.full((count + 64) * item + 512 + start, 0xFF, np.uint8)
    begin = 256 + -raw.ctypes.data % 256 + start
    whole = raw[begin : begin + (count + 64) * item].view(dtype)
    array = whole[:count].reshape(shape)
    if values is not None:
        array[...] = values
    return array, whole[count:]
