"""Launches among memory that nobody may touch.

Each array of a launch has pages of its own between two that the processor refuses. A launch is
done twice: arrays end where their pages end, then begin where they begin, with other bytes in
outputs and beside arrays. Nothing but the outputs may change, and both must give the same. So what
is read or written outside an array shows, and what is not written.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Mapping

import numpy as np

_NO_ACCESS = 0  # PROT_NONE
Arrays = Mapping[str, np.ndarray]


class Region:
    """Pages for one array between pages that may not be touched; the array ends or begins them."""

    def __init__(self, array: np.ndarray, fill: int, *, at_end: bool) -> None:
        size = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        whole = np.frombuffer(mmap.mmap(-1, size + 2 * mmap.PAGESIZE), np.uint8)
        for start in (0, size + mmap.PAGESIZE):
            place = ctypes.c_void_p(whole.ctypes.data + start)
            assert not ctypes.CDLL(None).mprotect(place, mmap.PAGESIZE, _NO_ACCESS)
        pages = whole[mmap.PAGESIZE : mmap.PAGESIZE + size]
        pages[...] = fill
        middle = size - array.nbytes if at_end else array.nbytes
        self.rest, part = (pages[:middle], pages[middle:])[:: 1 if at_end else -1]
        self.array = part.view(array.dtype).reshape(array.shape)


def launch_twice(
    start: Callable[[Mapping[str, int]], None],
    inputs: Arrays,
    outputs: Arrays,
    zeroed: Arrays | None = None,
) -> dict[str, np.ndarray]:
    """Launch, judge what else was touched; return the outputs and what was zeroed before."""
    given = {**inputs, **(zeroed or {})}
    found: list[dict[str, np.ndarray]] = []
    for fill, at_end in ((0x00, True), (0xFF, False)):
        regions = {n: Region(a, fill, at_end=at_end) for n, a in {**given, **outputs}.items()}
        for name, array in given.items():
            regions[name].array[...] = array
        start({name: region.array.ctypes.data for name, region in regions.items()})
        for name, region in regions.items():
            assert (region.rest == fill).all(), f"beside {name} something was written"
            if name in inputs:
                np.testing.assert_array_equal(region.array, inputs[name], err_msg=name)
        found.append({n: r.array.copy() for n, r in regions.items() if n not in inputs})
    for name, array in found[0].items():
        np.testing.assert_array_equal(
            array.view(np.uint8),
            found[1][name].view(np.uint8),
            err_msg=f"{name} depends on bytes outside the inputs, or is not all written",
        )
    return found[0]
