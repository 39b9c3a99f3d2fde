"""The CUDA driver, as far as the runtime needs it: one thin seam, two libraries behind it.

pycuda where it can be loaded, else cuda-bindings. Addresses are plain integers, streams and events
are whatever the library hands out (with an integer `handle`). Every call but `current` and `close`
needs the context to be current: `with cuda.current(): ...`.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy.typing as npt

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device.driver_types import GpuFacts, HostMemory

_log = logging.getLogger("hsnet_trt.tensorrt")


class Cuda(Protocol):
    """The first GPU, through its primary context: the one other CUDA libraries use too."""

    @property
    def library(self) -> str:
        """What is behind it: pycuda or cuda-bindings."""
        ...

    @property
    def facts(self) -> GpuFacts:
        """What the GPU is."""
        ...

    def current(self) -> AbstractContextManager[None]:
        """Make the context this thread's, until the block ends; CUDA's errors become ours."""
        ...

    def close(self) -> None:
        """Let go of the context; harmless when repeated."""
        ...

    def memory_info(self) -> tuple[int, int]:
        """Bytes free and in all."""
        ...

    def allocate(self, size: int) -> int:
        """Device memory, aligned to 256 bytes. Raises `OutOfGpuMemory`."""
        ...

    def free(self, address: int) -> None:
        """Give back what `allocate` gave."""
        ...

    def allocate_host(self, size: int, *, mapped: bool) -> HostMemory:
        """Page-locked host memory, reachable by kernels if `mapped`."""
        ...

    def free_host(self, memory: HostMemory) -> None:
        """Give back what `allocate_host` gave."""
        ...

    def upload(self, address: int, source: npt.NDArray[Any], stream: Any) -> None:
        """Copy to the device, in the stream's order; `source` is contiguous and must stay."""
        ...

    def download(self, target: npt.NDArray[Any], address: int, stream: Any) -> None:
        """Copy from the device, in the stream's order; `target` is contiguous."""
        ...

    def zero(self, address: int, size: int, stream: Any) -> None:
        """Fill device memory with zeros, in the stream's order."""
        ...

    def stream(self) -> Any:
        """A stream that does not wait for the default one."""
        ...

    def event(self) -> Any:
        """An event that keeps time."""
        ...

    def record(self, event: Any, stream: Any) -> None:
        """The event happens when all that is in the stream so far is done."""
        ...

    def wait(self, stream: Any, event: Any) -> None:
        """What enters the stream from now on waits for the event."""
        ...

    def synchronise(self, awaited: Any) -> None:
        """Wait here for a stream or an event."""
        ...

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two events that have happened."""
        ...

    def destroy(self, thing: Any) -> None:
        """Give back a stream or an event."""
        ...

    def load_kernels(self, image: bytes, names: tuple[str, ...], size: dict[str, int]) -> Any:
        """Load a fatbin: its kernels by name, each taking one struct of so many bytes."""
        ...

    def unload_kernels(self, kernels: Any) -> None:
        """Give them back; none may still run."""
        ...

    def launch(
        self,
        kernels: Any,
        name: str,
        grid: tuple[int, int],
        block: tuple[int, int],
        argument: bytes,
        stream: Any,
    ) -> None:
        """Start a kernel in the stream's order."""
        ...


def open_cuda() -> Cuda:
    """The first GPU through pycuda, or through cuda-bindings where pycuda cannot be loaded.

    Raises:
        BackendError: neither is installed or can be loaded, there is no driver, or no GPU.
    """
    broken: BackendError | None = None
    if has("pycuda"):
        from hsnet_trt.runtime.device.driver_pycuda import PycudaDriver, load_pycuda

        try:
            load_pycuda()
        except BackendError as error:
            broken = error
        else:
            return PycudaDriver()
    if has("cuda.bindings"):
        from hsnet_trt.runtime.device.driver_bindings import BindingsDriver

        try:
            opened = BindingsDriver()
        except BackendError as error:
            if broken is None:
                raise
            raise BackendError(
                "neither pycuda nor cuda-bindings can be used",
                found=f"{broken.summary}: {broken.found}; {error.summary}: {error.found}",
                fix=error.fix,
            ) from error
        if broken is not None:
            _warn_once(f"cuda-bindings is used, because {broken.summary}: {broken.found}")
        return opened
    if broken is not None:
        raise broken
    raise BackendError(
        "neither pycuda nor cuda-bindings is installed",
        fix="install one: python -m pip install pycuda (or cuda-bindings)",
    )


@functools.cache
def _warn_once(text: str) -> None:
    """A warning in the log, once a process."""
    _log.warning(text)


def has(module: str) -> bool:
    """Whether a module could be imported; it is not."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # its parent is missing; it has no spec
        return False
