"""Types and errors that both CUDA libraries share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import BackendError

Bytes = npt.NDArray[np.uint8]

OUT_OF_MEMORY_FIX = "build engines of smaller profiles: build-engine --queries --supports"


class OutOfGpuMemory(BackendError):
    """The GPU has less free memory than was requested."""


@dataclass(frozen=True)
class GpuFacts:
    """The GPU that a `Cuda` runs on."""

    name: str
    compute_capability: str  # "8.7"
    integrated: bool  # shares its memory with the CPU, as on a Jetson
    maps_host_memory: bool  # kernels may read and write page-locked host memory


@dataclass(frozen=True)
class HostMemory:
    """Pinned host memory: uint8 [size], and its device address if it is mapped."""

    array: Bytes
    device_address: int | None
    owner: Any  # the library's handle, for freeing it


class ForkGuard:
    """Refuses CUDA calls in a process that was forked after CUDA was set up, which cannot work."""

    def __init__(self) -> None:
        self._process = os.getpid()

    @property
    def forked(self) -> bool:
        """Whether this is not the process that set up CUDA."""
        return os.getpid() != self._process

    def check(self) -> None:
        """Raise BackendError in a forked process."""
        if self.forked:
            raise BackendError(
                "this segmenter was loaded before the process was forked",
                expected=f"a call from process {self._process}",
                found=f"process {os.getpid()}, which cannot use the GPU of its parent",
                fix="load it in the child, or start children with multiprocessing's 'spawn'",
            )
