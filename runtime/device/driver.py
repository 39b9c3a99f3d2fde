"""A thin interface to the CUDA driver, implemented by pycuda or else cuda-bindings.

Addresses are integers; streams and events are the library's own objects, with an integer `handle`.
Every call but `current` and `close` needs a current context: `with cuda.current(): ...`.
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
    """The first GPU, through its primary context, which other CUDA libraries use too."""

    @property
    def library(self) -> str:
        """The implementing library: pycuda or cuda-bindings."""
        ...

    @property
    def facts(self) -> GpuFacts:
        """Name and capabilities of the GPU."""
        ...

    def current(self) -> AbstractContextManager[None]:
        """Make the context current in this thread; CUDA errors in the block become BackendError."""
        ...

    def close(self) -> None:
        """Release the context; harmless when repeated."""
        ...

    def memory_info(self) -> tuple[int, int]:
        """Free and total device memory, in bytes."""
        ...

    def allocate(self, size: int) -> int:
        """Allocate device memory, aligned to 256 bytes. Raises `OutOfGpuMemory`."""
        ...

    def free(self, address: int) -> None:
        """Free memory from `allocate`."""
        ...

    def allocate_host(self, size: int, *, mapped: bool) -> HostMemory:
        """Allocate pinned host memory; kernels can access it if `mapped`."""
        ...

    def free_host(self, memory: HostMemory) -> None:
        """Free memory from `allocate_host`."""
        ...

    def upload(self, address: int, source: npt.NDArray[Any], stream: Any) -> None:
        """Enqueue a copy to the device; `source` is contiguous and must live until it is done."""
        ...

    def download(self, target: npt.NDArray[Any], address: int, stream: Any) -> None:
        """Enqueue a copy from the device; `target` is contiguous."""
        ...

    def zero(self, address: int, size: int, stream: Any) -> None:
        """Enqueue filling device memory with zeros."""
        ...

    def stream(self) -> Any:
        """Create a stream that does not synchronise with the default stream."""
        ...

    def event(self) -> Any:
        """Create an event with timing."""
        ...

    def record(self, event: Any, stream: Any) -> None:
        """Record the event after the work that is in the stream so far."""
        ...

    def wait(self, stream: Any, event: Any) -> None:
        """Make later work in the stream wait for the event."""
        ...

    def synchronise(self, awaited: Any) -> None:
        """Block until a stream or an event is done."""
        ...

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two completed events."""
        ...

    def destroy(self, thing: Any) -> None:
        """Free a stream or an event."""
        ...

    def load_kernels(self, image: bytes, names: tuple[str, ...], size: dict[str, int]) -> Any:
        """Load the named kernels of a fatbin, each of which takes one struct of `size` bytes."""
        ...

    def unload_kernels(self, kernels: Any) -> None:
        """Unload kernels; none may still run."""
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
        """Enqueue a kernel; `argument` holds its struct's bytes, `grid` and `block` are (x, y)."""
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
    """Log a warning, once per process."""
    _log.warning(text)


def has(module: str) -> bool:
    """Whether a module can be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # its parent is missing; it has no spec
        return False
