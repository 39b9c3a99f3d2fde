"""The CUDA driver through NVIDIA's cuda-bindings, where pycuda cannot be loaded."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Handle:
    """A CUstream or CUevent."""

    raw: Any

    @property
    def handle(self) -> int:
        """The C pointer."""
        return int(self.raw)


class BindingsDriver:
    """`driver.Cuda` through cuda-bindings."""

    library = "cuda-bindings"

    def __init__(self) -> None:
        """Retain the first GPU's primary context.

        Raises:
            BackendError: cuda-bindings cannot be loaded, there is no driver, or no GPU.
        """
        self._cuda = load_bindings()
        cuda = self._cuda
        try:
            self._call("cuInit", 0)
            self._device = self._call("cuDeviceGet", 0)
            flag = cuda.CUdevice_attribute
            numbers = [
                int(self._call("cuDeviceGetAttribute", attribute, self._device))
                for attribute in (
                    flag.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                    flag.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                    flag.CU_DEVICE_ATTRIBUTE_INTEGRATED,
                    flag.CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY,
                )
            ]
            name = bytes(self._call("cuDeviceGetName", 256, self._device))
            self._context = self._call("cuDevicePrimaryCtxRetain", self._device)
        # Without a driver, versions of cuda-bindings raise different errors.
        except (RuntimeError, OSError, ImportError, BackendError) as error:
            found = error.found if isinstance(error, BackendError) else error
            raise BackendError(
                "no GPU can be used", found=found, fix="see `hsnet-trt doctor`"
            ) from error
        self.facts = GpuFacts(
            name=name.split(b"\0", 1)[0].decode("utf-8", "replace"),
            compute_capability=f"{numbers[0]}.{numbers[1]}",
            integrated=bool(numbers[2]),
            maps_host_memory=bool(numbers[3]),
        )
        self._guard = ForkGuard()

    @contextmanager
    def current(self) -> Iterator[None]:
        """See `Cuda.current`. Raises BackendError also after `close` and in a forked process."""
        self._guard.check()
        if self._context is None:
            raise BackendError("the GPU was already let go of", fix="load the bundle again")
        self._call("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent")

    def close(self) -> None:
        """Release the context; harmless when repeated, and in a forked process."""
        if self._context is None or self._guard.forked:
            return
        self._context = None
        self._call("cuDevicePrimaryCtxRelease", self._device)

    def memory_info(self) -> tuple[int, int]:
        free, total = self._call("cuMemGetInfo")
        return int(free), int(total)

    def allocate(self, size: int) -> int:
        return int(self._call("cuMemAlloc", size))

    def free(self, address: int) -> None:
        self._call("cuMemFree", address)

    def allocate_host(self, size: int, *, mapped: bool) -> HostMemory:
        flags = self._cuda.CU_MEMHOSTALLOC_DEVICEMAP if mapped else 0
        pointer = int(self._call("cuMemHostAlloc", size, flags))
        array = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(pointer))
        address = int(self._call("cuMemHostGetDevicePointer", pointer, 0)) if mapped else None
        return HostMemory(array, address, pointer)

    def free_host(self, memory: HostMemory) -> None:
        self._call("cuMemFreeHost", memory.owner)

    def upload(self, address: int, source: npt.NDArray[Any], stream: Any) -> None:
        self._call("cuMemcpyHtoDAsync", address, source.ctypes.data, source.nbytes, stream.raw)

    def download(self, target: npt.NDArray[Any], address: int, stream: Any) -> None:
        self._call("cuMemcpyDtoHAsync", target.ctypes.data, address, target.nbytes, stream.raw)

    def zero(self, address: int, size: int, stream: Any) -> None:
        self._call("cuMemsetD8Async", address, 0, size, stream.raw)

    def stream(self) -> Any:
        flag = self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING
        return Handle(self._call("cuStreamCreate", int(flag)))

    def event(self) -> Any:
        return Handle(self._call("cuEventCreate", 0))

    def record(self, event: Any, stream: Any) -> None:
        self._call("cuEventRecord", event.raw, stream.raw)

    def wait(self, stream: Any, event: Any) -> None:
        self._call("cuStreamWaitEvent", stream.raw, event.raw, 0)

    def synchronise(self, awaited: Any) -> None:
        is_event = isinstance(awaited.raw, self._cuda.CUevent)
        self._call("cuEventSynchronize" if is_event else "cuStreamSynchronize", awaited.raw)

    def elapsed_ms(self, start: Any, end: Any) -> float:
        return float(self._call("cuEventElapsedTime", start.raw, end.raw))

    def destroy(self, thing: Any) -> None:
        is_event = isinstance(thing.raw, self._cuda.CUevent)
        self._call("cuEventDestroy" if is_event else "cuStreamDestroy", thing.raw)

    def load_kernels(self, image: bytes, names: tuple[str, ...], size: dict[str, int]) -> Any:
        module = self._call("cuModuleLoadData", image)
        kernels = {n: self._call("cuModuleGetFunction", module, n.encode()) for n in names}
        return {"module": module, **kernels}

    def unload_kernels(self, kernels: Any) -> None:
        self._call("cuModuleUnload", kernels["module"])

    def launch(
        self,
        kernels: Any,
        name: str,
        grid: tuple[int, int],
        block: tuple[int, int],
        argument: bytes,
        stream: Any,
    ) -> None:
        content = ctypes.create_string_buffer(argument, len(argument))
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(content))  # copied before it returns
        self._call(
            "cuLaunchKernel",
            kernels[name],
            *grid,
            1,
            *block,
            1,
            0,
            stream.raw,
            ctypes.addressof(pointers),
            0,
        )

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call a driver function; see `call_driver`."""
        return call_driver(self._cuda, name, *arguments)


def load_bindings() -> Any:
    """Import `cuda.bindings.driver`.

    Raises:
        BackendError: it cannot be loaded.
    """
    try:
        return importlib.import_module("cuda.bindings.driver")
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(
            "cuda-bindings cannot be loaded",
            found=error,
            fix="install NVIDIA's driver and cuda-bindings: python -m pip install cuda-bindings",
        ) from error


def call_driver(cuda: Any, name: str, *arguments: Any) -> Any:
    """Call a function of `cuda.bindings.driver`, and raise an error unless it succeeds.

    Returns:
        The results besides the status: None, a single one, or a list.

    Raises:
        OutOfGpuMemory: the GPU's memory does not suffice.
        BackendError: any other failure, or the driver lacks the function.
    """
    try:
        status, *results = getattr(cuda, name)(*arguments)
    except RuntimeError as error:  # the driver is older than the library and lacks the function
        raise BackendError(
            "the NVIDIA driver is too old for this cuda-bindings",
            found=f"{name}: {error}",
            fix="install the release that fits the driver, for CUDA 12: 'cuda-bindings<13'",
        ) from error
    if int(status):
        if status == cuda.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise OutOfGpuMemory(
                "the GPU's memory does not suffice", found=status.name, fix=OUT_OF_MEMORY_FIX
            )
        text = cuda.cuGetErrorString(status)[1]
        words = text.decode() if isinstance(text, bytes) else status.name
        raise BackendError("CUDA failed", found=f"{name}: {words}", fix="see `hsnet-trt doctor`")
    return None if not results else results[0] if len(results) == 1 else results
