"""The parameter and grid of a call of the correlation kernel.

The same as ``kernels/plan.h``, which the C++ plugin uses; a test compares the two.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from hsnet_trt.trt_plugins.sizes import CorrelationSizes

# The kernel's three forms, by the side of a tile in positions. Large FP32 tiles have half as many
# columns.
TILES = {"large": 128, "small": 64, "split": 32}
THREADS = 128  # per block
_CUT = 4  # small tiles in a large one
_RESIDENT = 2  # large FP16 blocks resident on a multiprocessor
KERNELS = tuple(f"correlate_{tiles}" for tiles in TILES)
TENSORS = ("query", "columns", "positions", "counts", "full", "pruned")


class Problem(ctypes.Structure):
    """The kernel's one parameter (``hsnet::Problem``). Pointers are device addresses."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in TENSORS),
        *((name, ctypes.c_int32) for name in ("batch", "supports", "layers", "channels")),
        *((name, ctypes.c_int32) for name in ("query_h", "query_w", "support_h", "support_w")),
        *(
            (name, ctypes.c_int32)
            for name in ("stride", "query_row", "column_row", "multiprocessors")
        ),
    )


@dataclass(frozen=True)
class Launch:
    """One launch: the kernel's name, the grid (x, y, z), and the threads per block."""

    kernel: str
    grid: tuple[int, int, int]
    threads: int


@dataclass(frozen=True)
class Plan:
    """A call without its addresses.

    Args:
        sizes: the op's attributes.
        batch, supports, layers, channels: B, S, L and C.
        element_size: bytes per element: 2 for FP16, 4 for FP32.
        query_row, column_row: elements from one row of that input to the next.
    """

    sizes: CorrelationSizes
    batch: int
    supports: int
    layers: int
    channels: int
    element_size: int
    query_row: int
    column_row: int

    @classmethod
    def of(
        cls, sizes: CorrelationSizes, inputs: Sequence[Sequence[int]], element_size: int
    ) -> Plan:
        """The plan for these shapes of query, columns, positions and counts.

        Raises:
            InputError: the shapes do not fit, or the correlation is too large.
        """
        query, columns, positions, counts = inputs
        sizes.output_shapes(query, columns, positions, counts)
        batch, layers, channels, query_row = query
        return cls(sizes, batch, columns[0], layers, channels, element_size, query_row, columns[3])

    def problem(self, addresses: Sequence[int]) -> Problem:
        """Return the kernel's parameter for the device addresses of ``TENSORS``.

        Addresses must be multiples of 16. The launch fills in the GPU's ``multiprocessors``.
        """
        return Problem(
            **dict(zip(TENSORS, addresses, strict=True)),
            batch=self.batch,
            supports=self.supports,
            layers=self.layers,
            channels=self.channels,
            query_row=self.query_row,
            column_row=self.column_row,
            **self.sizes.attributes(),
        )

    def tiles(self, multiprocessors: int) -> str:
        """Return the form to use, a key of ``TILES``, on a GPU with so many multiprocessors."""
        if self._blocks("large") >= (8 if self.element_size == 4 else 1) * multiprocessors:
            return "large"
        return "small" if self._blocks("small") >= multiprocessors else "split"

    def correlate(self, tiles: str, multiprocessors: int = 0) -> Launch:
        """Return the launch of one of the kernel's forms, a key of ``TILES``.

        With the GPU's multiprocessors given, the grid has room for the large FP16 tiles that are
        cut in four (``cut_tiles`` in ``plan.h``); for 0, none are cut.
        """
        side = TILES[tiles]
        width = side // 2 if tiles == "large" and self.element_size == 4 else side
        rows = _ceil_div(self.sizes.query_positions, side)
        columns = _ceil_div(self.sizes.support_positions, width)
        cut = 0
        if tiles == "large" and self.element_size == 2:
            cut = self.cut_tiles(rows * columns * self.layers, multiprocessors)
        x = rows * columns + (_CUT - 1) * cut // self.layers
        grid = (x, self.layers, self.batch * self.supports)
        return Launch(f"hsnet_correlate_{tiles}_{self._suffix}", grid, THREADS)

    def launch(self, multiprocessors: int) -> Launch:
        """Return the call's launch on a GPU with so many multiprocessors."""
        return self.correlate(self.tiles(multiprocessors), multiprocessors)

    def cut_tiles(self, tiles: int, multiprocessors: int) -> int:
        """Return how many of the large FP16 tiles, the last ones, are cut in four."""
        at_once = _RESIDENT * multiprocessors
        if at_once < 1 or self.batch * self.supports != 1:
            return 0
        left = _ceil_div(tiles % at_once, self.layers) * self.layers
        return left if left < tiles and _CUT * left <= at_once else 0

    @property
    def _suffix(self) -> str:
        return "f16" if self.element_size == 2 else "f32"

    def _blocks(self, tiles: str) -> int:
        x, y, z = self.correlate(tiles).grid
        return x * y * z


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
