"""The frame kernels' own source, compiled for the CPU with the emulator, in place of a fatbin.

An image is the content of a shared library; `open_image` loads it, as a driver loads a fatbin.
"""

from __future__ import annotations

import ctypes
import functools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from helpers.kernels.emulated import build_emulated

from hsnet_trt.runtime.frames.frame_kernels import (
    COLOUR,
    FIT,
    GUIDE,
    LIKENESS,
    PREPARE,
    REFINE,
    SETTLE,
    SOURCE,
    TILE,
    VOTE,
    histogram_bytes,
)
from hsnet_trt.trt_plugins.nvcc import sources

View = Callable[[int, Any, tuple[int, ...]], np.ndarray]


def compile_frames(folder: Path, source: Path = SOURCE) -> bytes:
    """The image of the frame kernels, or of an altered copy; the library is left in `folder`."""
    # Products and sums may be fused, as nvcc fuses them, where this CPU can.
    flags = ("-O2", "-march=native", "-ffp-contract=fast", f'-DFRAMES="{source}"')
    return build_emulated("frames.cpp", 800, folder, *flags).read_bytes()


def compile_altered(folder: Path, old: str, new: str) -> bytes:
    """The image of frame kernels with a fault: one place of their text is another."""
    texts = {path.name: path.read_text() for path in sources(SOURCE)}
    count = sum(text.count(old) for text in texts.values())
    assert count == 1, f"{old!r} stands {count} times in the source"
    altered = folder / "altered"
    altered.mkdir()
    for name, text in texts.items():
        (altered / name).write_text(text.replace(old, new))
    return compile_frames(folder, altered / SOURCE.name)


@dataclass(frozen=True)
class Kernel:
    """One kernel of a loaded image. Its launches run at once, one at a time."""

    library: ctypes.CDLL
    name: str
    size: int  # bytes of its argument

    def launch(self, grid: tuple[int, ...], block: tuple[int, ...], argument: bytes) -> None:
        sides = [(ctypes.c_uint32 * 3)(*side, *[1] * (3 - len(side))) for side in (grid, block)]
        assert sides[0][2] == sides[1][2] == 1 and len(argument) == self.size
        assert np.prod(sides[1]) <= 1024, "no GPU takes so many threads a block"
        failed = self.library.emulated_launch(self.name.encode(), *sides, argument)
        assert not failed, f"{self.name} reached memory that it may not reach"


@functools.cache
def open_image(image: bytes) -> ctypes.CDLL:
    """Load an image.

    Raises:
        OSError: it is none.
    """
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(image)
        file.flush()
        library = ctypes.CDLL(file.name)
    library.emulated_argument_size.restype = ctypes.c_uint64
    return library


def find_kernel(library: ctypes.CDLL, name: str) -> Kernel | None:
    """A kernel by its name, or None."""
    size = int(library.emulated_argument_size(name.encode()))
    return Kernel(library, name, size) if size else None


def reached(name: str, argument: bytes, view: View) -> Iterator[tuple[int, int]]:
    """Address and length of all that a launch may read or write.

    Args:
        name: of the kernel.
        argument: its struct.
        view: gives an array from an address, a type and a shape, to look up what tables say.
    """
    _, kind, *ending = name.split("_")
    element = {"f16": 2, "f32": 4}[ending[0]] if ending else 0
    if kind == "prepare":
        v = PREPARE.unpack(argument)
        pitch, taps_x, taps_y, network_h, network_w, _, _, height, width = v[6:15]
        last_x = int(view(v[2], np.int32, (width, 2)).sum(1).max())
        last_y = int(view(v[4], np.int32, (height, 2)).sum(1).max())
        yield v[0], (last_y - 1) * pitch + 3 * last_x
        yield v[1], 3 * network_h * network_w * element
        yield from zip(
            v[2:6], (8 * width, 4 * width * taps_x, 8 * height, 4 * height * taps_y), strict=True
        )
    elif kind == "vote":
        v = VOTE.unpack(argument)
        chunk_elements, chunk_shots, classes, decoder_h, decoder_w, height, width = v[9:]
        shot = 2 * decoder_h * decoder_w
        for s in range(int(view(v[5], np.int32, (classes + 1,))[-1])):
            start = (s // chunk_shots) * chunk_elements + (s % chunk_shots) * shot
            yield v[0] + start * element, shot * element
        planes = classes * height * width
        sizes = (4 * width, 4 * width, 4 * height, 4 * height)
        sizes += (4 * classes + 4, 2 * planes, 4 * planes, 4 * classes + 4)
        yield from ((at, size) for at, size in zip(v[1:9], sizes, strict=True) if at)
    elif kind == "likeness":
        features, objects, best, channels, positions, vectors = LIKENESS.unpack(argument)
        yield features, channels * positions * element
        yield objects, 4 * channels * (-(-vectors // TILE) * TILE)
        yield best, 4 * vectors
    elif kind == "guide":
        planes, fine, guide, network_h, network_w, height, width, *_ = GUIDE.unpack(argument)
        yield planes, 3 * network_h * network_w * element
        yield fine, 4 * 3 * 4 * height * width
        yield guide, 4 * 3 * height * width
    elif kind in ("count", "weigh"):  # one shot
        v = COLOUR.unpack(argument)
        height, width = v[7:9]
        yield v[0], 2 * height * width * element
        yield v[1], 4 * 3 * height * width
        yield v[2], histogram_bytes(1)
        yield v[3], 4 * height * width
        yield v[4], 4
    elif kind == "fit":  # one shot
        values, guide, lines, height, width, *_ = FIT.unpack(argument)
        yield values, 4 * height * width
        yield guide, 4 * 3 * height * width
        yield lines, 4 * 4 * height * width
    elif kind == "refine":  # one shot
        lines, fine, logits, height, width, *_ = REFINE.unpack(argument)
        yield lines, 4 * 4 * height * width
        yield fine, 4 * 3 * 4 * height * width
        yield logits, 4 * 2 * 4 * height * width
    elif kind == "settle":
        v = SETTLE.unpack(argument)
        classes, count = v[5:]
        planes = classes * count
        sizes = (2 * planes, 4 * planes, 4 * classes + 4, count, planes)
        yield from ((at, size) for at, size in zip(v[:5], sizes, strict=True) if at)
