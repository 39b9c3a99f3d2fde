"""What a call of the kernels is: the parameter they take, their workspace and their grids.

The same page as ``kernels/plan.h``, which the C++ plugin reads; a test holds the two together.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from hsnet_trt.trt_plugins.sizes import CorrelationSizes

PIECE_BYTES = 16  # of one vector
SECTOR_BYTES = 32  # of what global memory moves at least
WINDOW_PIECES = 30  # that a warp of prepare or gather handles at a time
PART_CHANNELS = 128  # that one block of prepare or gather goes through
PACK_THREADS = 256  # of prepare and gather
# Of the product's three forms: positions of a tile, threads of a block.
TILES = {"large": (128, 256), "small": (64, 128), "split": (32, 128)}
KERNELS = ("prepare", "gather", *(f"correlate_{tiles}" for tiles in TILES))
ROW_BYTES = 128  # rows in the workspace start on it
PART_BYTES = 256  # parts of the workspace start on it


class Problem(ctypes.Structure):
    """The kernels' one parameter (``hsnet::Problem``). Pointers are device addresses."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("query", "support", "full", "pruned")),
        *(
            (name, ctypes.c_void_p)
            for name in ("packed_query", "packed_support", "squares", "positions")
        ),
        *((name, ctypes.c_void_p) for name in ("counts", "flags")),
        *((name, ctypes.c_int32) for name in ("batch", "supports", "layers", "channels")),
        *((name, ctypes.c_int32) for name in ("query_h", "query_w", "support_h", "support_w")),
        *((name, ctypes.c_int32) for name in ("stride", "query_pitch", "support_pitch")),
    )


@dataclass(frozen=True)
class Launch:
    """One kernel: its name, its grid (x, y, z) and the threads of a block."""

    kernel: str
    grid: tuple[int, int, int]
    threads: int


@dataclass(frozen=True)
class Plan:
    """Everything about a call but its addresses.

    Args:
        sizes: the op's attributes.
        batch, supports, layers, channels: B, S, L and C.
        element_size: bytes of an element: 2 for FP16, 4 for FP32.
    """

    sizes: CorrelationSizes
    batch: int
    supports: int
    layers: int
    channels: int
    element_size: int

    @classmethod
    def of(
        cls,
        sizes: CorrelationSizes,
        query: Sequence[int],
        support: Sequence[int],
        element_size: int,
    ) -> Plan:
        """Plan for inputs of these shapes.

        Raises:
            InputError: the shapes do not fit.
        """
        sizes.output_shapes(query, support)
        return cls(sizes, query[0], support[0], query[1], query[2], element_size)

    @property
    def query_pitch(self) -> int:
        """Elements from one packed query row to the next."""
        return _round_up(self.sizes.query_positions, ROW_BYTES // self.element_size)

    @property
    def support_pitch(self) -> int:
        """Elements from one packed support row to the next."""
        return _round_up(self.sizes.support_positions, ROW_BYTES // self.element_size)

    def parts(self) -> dict[str, int]:
        """Return the bytes of each part of the workspace, in order."""
        sizes = self.sizes
        query_rows, support_rows = self.batch * self.layers, self.supports * self.layers
        row = self.channels * self.element_size
        aligned = sizes.query_positions * self.element_size % SECTOR_BYTES == 0
        flags = self.support_pitch // (PIECE_BYTES // self.element_size)
        return {
            "packed_query": 0 if aligned else query_rows * row * self.query_pitch,
            "packed_support": support_rows * row * self.support_pitch,
            "squares": self._parts * query_rows * self.query_pitch * 4,
            "positions": support_rows * self.support_pitch * 4,
            "counts": support_rows * 4,
            "flags": support_rows * self._parts * flags,
        }

    @property
    def workspace_bytes(self) -> int:
        """Bytes of scratch memory that a call needs; nothing in it is kept between calls."""
        return sum(_round_up(size, PART_BYTES) for size in self.parts().values())

    def problem(self, query: int, support: int, full: int, pruned: int, workspace: int) -> Problem:
        """Return the kernels' parameter for these device addresses (multiples of 16)."""
        addresses, at = {}, workspace
        for name, size in self.parts().items():
            addresses[name] = at
            at += _round_up(size, PART_BYTES)
        return Problem(
            query=query,
            support=support,
            full=full,
            pruned=pruned,
            batch=self.batch,
            supports=self.supports,
            layers=self.layers,
            channels=self.channels,
            query_pitch=self.query_pitch,
            support_pitch=self.support_pitch,
            **addresses,
            **self.sizes.attributes(),
        )

    def tiles(self, multiprocessors: int) -> str:
        """Return the form of the product, a key of ``TILES``, for a GPU with so many processors."""
        if self._blocks("large") >= (4 if self.element_size == 4 else 1) * multiprocessors:
            return "large"
        return "small" if self._blocks("small") >= multiprocessors else "split"

    def correlate(self, tiles: str) -> Launch:
        """Return the product's kernel in one of its forms, a key of ``TILES``."""
        side, threads = TILES[tiles]
        rows = _ceil_div(self.sizes.query_positions, side)
        columns = _ceil_div(self.sizes.support_positions, side)
        grid = (rows * columns, self.layers, self.batch * self.supports)
        return Launch(f"hsnet_correlate_{tiles}_{self._suffix}", grid, threads)

    def launches(self, multiprocessors: int) -> list[Launch]:
        """Return the three kernels of a call, in order."""
        window = WINDOW_PIECES * (PIECE_BYTES // self.element_size)
        support = _ceil_div(self.sizes.support_positions, window)
        windows = _ceil_div(self.sizes.query_positions, window) * self.batch
        windows += support * self.supports
        prepare = (windows * self.layers * self._parts, 1, 1)
        gather = (support * self._parts, self.layers, self.supports)
        return [
            Launch(f"hsnet_prepare_{self._suffix}", prepare, PACK_THREADS),
            Launch(f"hsnet_gather_{self._suffix}", gather, PACK_THREADS),
            self.correlate(self.tiles(multiprocessors)),
        ]

    @property
    def _parts(self) -> int:
        """Of the channels, each gone through by blocks of its own."""
        return _ceil_div(self.channels, PART_CHANNELS)

    @property
    def _suffix(self) -> str:
        return "f16" if self.element_size == 2 else "f32"

    def _blocks(self, tiles: str) -> int:
        x, y, z = self.correlate(tiles).grid
        return x * y * z


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _round_up(a: int, b: int) -> int:
    return _ceil_div(a, b) * b
