"""The CUDA driver through pycuda (2024.1 and later), in the primary context, without `autoinit`."""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device.driver_types import (
    OUT_OF_MEMORY_FIX,
    ForkGuard,
    GpuFacts,
    HostMemory,
    OutOfGpuMemory,
)

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING


class PycudaDriver:
    """`driver.Cuda` through pycuda."""

    library = "pycuda"

    def __init__(self) -> None:
        """Retain the first GPU's primary context.

        Raises:
            BackendError: pycuda cannot be loaded, there is no driver, or no GPU.
        """
        self._cuda: Any = load_pycuda()
        cuda = self._cuda
        try:
            cuda.init()
            device = cuda.Device(0)
            major, minor = device.compute_capability()
            flag = cuda.device_attribute
            self.facts = GpuFacts(
                name=device.name(),
                compute_capability=f"{major}.{minor}",
                integrated=bool(device.get_attribute(flag.INTEGRATED)),
                maps_host_memory=bool(device.get_attribute(flag.CAN_MAP_HOST_MEMORY)),
            )
            self._context = device.retain_primary_context()
        except cuda.Error as error:
            raise BackendError(
                "no GPU can be used", found=error, fix="see `hsnet-trt doctor`"
            ) from error
        self._guard = ForkGuard()
        self._blocks: dict[int, Any] = {}

    @contextmanager
    def current(self) -> Iterator[None]:
        """See `Cuda.current`. Raises BackendError also after `close` and in a forked process."""
        self._guard.check()
        if self._context is None:
            raise BackendError("the GPU was already let go of", fix="load the bundle again")
        try:
            self._context.push()
        except self._cuda.Error as error:
            raise _failed(error) from error
        try:
            yield
        except self._cuda.MemoryError as error:
            raise OutOfGpuMemory(
                "the GPU's memory does not suffice", found=error, fix=OUT_OF_MEMORY_FIX
            ) from error
        except self._cuda.Error as error:
            raise _failed(error) from error
        finally:
            self._cuda.Context.pop()

    def close(self) -> None:
        """Release the context; harmless when repeated, and in a forked process."""
        if self._context is None or self._guard.forked:
            return
        context, self._context = self._context, None
        # pycuda releases a primary context only on the thread that retained it or where it is
        # current, and leaves it on the driver's stack. So push it, release it, and pop it here.
        before = _driver_context()
        context.push()
        context.detach()
        if before is not None and _driver_context() != before:
            _pop_driver_context()

    def memory_info(self) -> tuple[int, int]:
        free, total = self._cuda.mem_get_info()
        return int(free), int(total)

    def allocate(self, size: int) -> int:
        try:
            block = self._cuda.mem_alloc(size)
        except self._cuda.MemoryError as error:
            raise OutOfGpuMemory(
                "the GPU's memory does not suffice",
                expected=f"{size / 1e6:,.0f} MB free in one piece",
                found=error,
                fix=OUT_OF_MEMORY_FIX,
            ) from error
        self._blocks[int(block)] = block
        return int(block)

    def free(self, address: int) -> None:
        self._blocks.pop(address).free()

    def allocate_host(self, size: int, *, mapped: bool) -> HostMemory:
        flags = self._cuda.host_alloc_flags.DEVICEMAP if mapped else 0
        array = self._cuda.pagelocked_empty((size,), np.uint8, mem_flags=flags)
        address = int(array.base.get_device_pointer()) if mapped else None
        return HostMemory(array, address, array.base)

    def free_host(self, memory: HostMemory) -> None:
        memory.owner.free()

    def upload(self, address: int, source: npt.NDArray[Any], stream: Any) -> None:
        self._cuda.memcpy_htod_async(address, source, stream)

    def download(self, target: npt.NDArray[Any], address: int, stream: Any) -> None:
        self._cuda.memcpy_dtoh_async(target, address, stream)

    def zero(self, address: int, size: int, stream: Any) -> None:
        self._cuda.memset_d8_async(address, 0, size, stream)

    def stream(self) -> Any:
        return self._cuda.Stream(_NON_BLOCKING)

    def event(self) -> Any:
        return self._cuda.Event()

    def record(self, event: Any, stream: Any) -> None:
        event.record(stream)

    def wait(self, stream: Any, event: Any) -> None:
        stream.wait_for_event(event)

    def synchronise(self, awaited: Any) -> None:
        awaited.synchronize()

    def elapsed_ms(self, start: Any, end: Any) -> float:
        return float(start.time_till(end))

    def destroy(self, thing: Any) -> None:
        """No-op: pycuda frees streams and events with their last reference."""

    def load_kernels(self, image: bytes, names: tuple[str, ...], size: dict[str, int]) -> Any:
        module = self._cuda.module_from_buffer(image)
        kernels = {}
        for name in names:
            kernels[name] = module.get_function(name)
            kernels[name].prepare([f"{size[name]}s"])
        return {"module": module, **kernels}

    def unload_kernels(self, kernels: Any) -> None:
        kernels.clear()  # pycuda unloads a module with its last reference

    def launch(
        self,
        kernels: Any,
        name: str,
        grid: tuple[int, int],
        block: tuple[int, int],
        argument: bytes,
        stream: Any,
    ) -> None:
        kernels[name].prepared_async_call((*grid, 1), (*block, 1), stream, argument)


def load_pycuda() -> Any:
    """Import `pycuda.driver`.

    Raises:
        BackendError: it cannot be loaded.
    """
    try:
        return importlib.import_module("pycuda.driver")
    except (ImportError, OSError) as error:
        raise BackendError(
            "pycuda cannot be loaded",
            found=error,
            fix="install NVIDIA's driver and pycuda: python -m pip install pycuda",
        ) from error


def _failed(error: Exception) -> BackendError:
    return BackendError("CUDA failed", found=error, fix="see `hsnet-trt doctor`")


def _library() -> Any:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def _driver_context() -> int | None:
    """The driver's current context on this thread; 0 for none, None if it cannot be asked."""
    context = ctypes.c_void_p()
    with suppress(OSError, AttributeError):
        if _library().cuCtxGetCurrent(ctypes.byref(context)) == 0:
            return context.value or 0
    return None


def _pop_driver_context() -> None:
    with suppress(OSError, AttributeError):
        _library().cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
