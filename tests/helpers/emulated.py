"""The CUDA kernels, compiled for the CPU with the emulator: one library per architecture."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
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
        self._library.hsnet_run.restype = ctypes.c_int64
        self._library.hsnet_plan.restype = ctypes.c_int64
        self._library.hsnet_error.restype = ctypes.c_char_p

    def plan(
        self, sizes: CorrelationSizes, shape: tuple[int, ...], element: int, multiprocessors: int
    ) -> tuple[int, list[int]]:
        """What plan.h says: the workspace's bytes, and its other figures in a row."""
        figures = (ctypes.c_int64 * 32)()
        size = self._library.hsnet_plan(ints(sizes, shape), element, multiprocessors, figures)
        return int(size), list(figures)

    def run(
        self,
        query: NDArray[Any],
        support: NDArray[Any],
        sizes: CorrelationSizes,
        *,
        tiles: str,
        seed: int = 0,
        start: int = 0,
    ) -> tuple[NDArray[Any], NDArray[Any], int]:
        """Return full, pruned, and how many columns were multiplied. Outputs start as NaN.

        ``tiles`` is the form of the product, a key of TILES. Tensors begin ``start`` bytes behind a
        multiple of 256.
        """
        full_shape, pruned_shape = sizes.output_shapes(query.shape, support.shape)
        arrays = [
            aligned(query.shape, query.dtype, query, start),
            aligned(support.shape, query.dtype, support, start),
            aligned(full_shape, query.dtype, None, start),
            aligned(pruned_shape, query.dtype, None, start),
        ]
        shape = (query.shape[0], support.shape[0], query.shape[1], query.shape[2])
        columns = self._library.hsnet_run(
            ints(sizes, shape),
            int(query.dtype == np.float16),
            list(TILES).index(tiles),
            ctypes.c_uint(seed),
            *(ctypes.c_void_p(array.ctypes.data) for array, _ in arrays),
        )
        assert columns >= 0, self._library.hsnet_error().decode()
        assert all(np.isnan(behind).all() for _, behind in arrays), "written behind the end"
        return arrays[2][0], arrays[3][0], int(columns)


def ints(sizes: CorrelationSizes, shape: tuple[int, ...]) -> Any:
    """What the emulator's entries take: B, S, L, C and the op's attributes."""
    return (ctypes.c_int32 * 9)(*shape, *sizes.attributes().values())


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
