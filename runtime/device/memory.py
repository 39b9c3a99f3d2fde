"""One block of device memory for a bundle: all tensors of its engines, and their workspace.

The three engines run one after the other on one stream, so they share one workspace, and each
tensor that one engine writes and another reads is allocated once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hsnet_trt.runtime.bundle.manifest import GraphFile
from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.device.driver_types import OutOfGpuMemory

ALIGNMENT = 256  # bytes; TensorRT requires it of every address


def aligned(size: int) -> int:
    """The size rounded up to the alignment, in bytes."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class Block:
    """Named parts of one allocation, freed together.

    Args:
        cuda: the driver; its context must be current.
        sizes: bytes of each part.

    Raises:
        OutOfGpuMemory: the GPU has not that much memory free in one piece.
    """

    def __init__(self, cuda: Cuda, sizes: Mapping[str, int]) -> None:
        self._cuda = cuda
        self.sizes = dict(sizes)
        self.offsets: dict[str, int] = {}
        end = 0
        for name, size in sizes.items():
            self.offsets[name] = end
            end += aligned(max(1, size))
        self.bytes = max(end, ALIGNMENT)
        self.address: int | None = cuda.allocate(self.bytes)

    def at(self, name: str) -> int:
        """The address of a part. Raises RuntimeError after `free`."""
        if self.address is None:
            raise RuntimeError(f"{name} was freed")
        return self.address + self.offsets[name]

    def free(self) -> None:
        """Free the memory; harmless when repeated."""
        if self.address is not None:
            self._cuda.free(self.address)
            self.address = None


def reserve(cuda: Cuda, sizes: Mapping[str, int], match: GraphFile | None, most: Any) -> Block:
    """Allocate the block of a bundle's engines.

    Args:
        cuda: the driver; its context must be current, and the engines' weights loaded.
        sizes: bytes of each tensor, and of `workspace`.
        match: the match graph's record, whose memory grows with the profile.
        most: the runner's limits.

    Raises:
        OutOfGpuMemory: not enough memory is free; it tells how much is needed and free, and a
            profile that would fit.
    """
    try:
        return Block(cuda, sizes)
    except OutOfGpuMemory as error:
        needed = sum(aligned(max(1, size)) for size in sizes.values())
        free, total = cuda.memory_info()
        fits = _smaller(match, most, free / needed) if match is not None else None
        raise OutOfGpuMemory(
            "the GPU's memory does not suffice for these engines",
            expected=f"{needed / 1e6:,.0f} MB free, beside the engines' weights",
            found=f"{free / 1e6:,.0f} MB free of {total / 1e6:,.0f} MB",
            fix=f"build engines of a smaller profile: build-engine --queries 1 --supports {fits}"
            if fits
            else "end what else uses the GPU, or build the bundle at a smaller size",
        ) from error


def _smaller(match: GraphFile, most: Any, share: float) -> int | None:
    """The most supports, with one query, that fit into a share of the estimated memory."""
    growth = match.activation_bytes
    allowed = growth.at(most.queries, most.supports) * share
    fitting = [s for s in range(1, most.supports + 1) if growth.at(1, s) <= allowed]
    return fitting[-1] if fitting else None
