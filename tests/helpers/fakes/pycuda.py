"""pycuda's driver module for a GPU that is not there: a face of `cuda.FakeCuda`."""

from __future__ import annotations

import ctypes
import importlib.machinery
import types
from typing import Any

import numpy as np
from helpers.fakes.cuda import CudaRefused, Event, FakeCuda


class FakeDriver(FakeCuda):
    """Stands for `pycuda.driver`."""

    def __init__(self) -> None:
        super().__init__()
        self.__spec__ = importlib.machinery.ModuleSpec("pycuda.driver", None)
        core = self

        class Error(Exception):
            pass

        class MemoryError_(Error):
            pass

        def guarded(function: Any) -> Any:
            def call(*arguments: Any, **named: Any) -> Any:
                try:
                    return function(*arguments, **named)
                except CudaRefused as error:
                    kind = MemoryError_ if error.code == "OUT_OF_MEMORY" else Error
                    raise kind(error.code) from error

            return call

        class DeviceAllocation:
            def __init__(self, size: int) -> None:
                self.address = guarded(core.allocate)(size, core.device)

            def __int__(self) -> int:
                return self.address

            def free(self) -> None:
                guarded(core.free)(self.address, core.device)

        class PyStream:
            def __init__(self, flags: int = 0) -> None:
                assert flags == 1, "would wait for the default stream"
                self.core = guarded(core.make_stream)()
                self.handle = self.core.number

            def synchronize(self) -> None:
                guarded(core.need_context)()
                guarded(self.core.run)()

            def wait_for_event(self, event: PyEvent) -> None:
                guarded(core.wait)(self.core, event.core)

        class PyEvent:
            def __init__(self) -> None:
                guarded(core.need_context)()
                self.core = Event()

            def record(self, stream: PyStream) -> None:
                guarded(core.record)(self.core, stream.core)

            def synchronize(self) -> None:
                guarded(core.synchronise_event)(self.core)

            def time_till(self, other: PyEvent) -> float:
                return float(guarded(core.elapsed)(self.core, other.core))

        class Host:
            def __init__(self, address: int) -> None:
                self.address = address

            def get_device_pointer(self) -> int:
                return self.address

            def free(self) -> None:
                guarded(core.free)(self.address, core.host)

        def pagelocked_empty(shape: tuple[int], dtype: Any, mem_flags: int = 0) -> Any:
            address = guarded(core.allocate)(shape[0], core.host)
            array = np.frombuffer((ctypes.c_uint8 * shape[0]).from_address(address), dtype)
            based = array.view(_Based)
            based.given = Host(address)
            return based

        class Primary:
            def push(self) -> None:
                core.push()

            def detach(self) -> None:
                core.retained -= 1
                core.depth[next(t for t, n in core.depth.items() if n)] -= 1  # pycuda's own stack

        class Context:
            pop = staticmethod(guarded(core.pop))

        class Device:
            def __init__(self, index: int) -> None:
                assert index == 0

            def compute_capability(self) -> tuple[int, int]:
                return (8, 9)

            def name(self) -> str:
                return "Fake card"

            def get_attribute(self, name: str) -> int:
                return {"integrated": core.integrated, "map": True}[name]

            def retain_primary_context(self) -> Primary:
                core.retained += 1
                return Primary()

        class Function:
            def __init__(self, module: Module, name: str) -> None:
                self.kernel = guarded(core.kernel)(module.loaded, name)

            def prepare(self, kinds: list[str]) -> None:
                assert kinds == [f"{self.kernel.size}s"]

            def prepared_async_call(
                self, grid: Any, block: Any, stream: PyStream, argument: bytes
            ) -> None:
                assert len(grid) == len(block) == 3 and len(argument) == self.kernel.size
                guarded(core.launch)(self.kernel, grid, block, argument, stream.core)

        class Module:
            def __init__(self, image: bytes) -> None:
                self.loaded = guarded(core.load)(image)

            def get_function(self, name: str) -> Function:
                return Function(self, name)

        self.Error, self.MemoryError = Error, MemoryError_
        self.Stream, self.Event, self.Context, self.Device = PyStream, PyEvent, Context, Device
        self.mem_alloc, self.pagelocked_empty = DeviceAllocation, pagelocked_empty
        self.module_from_buffer = Module
        self.mem_get_info = lambda: (core.memory_left, 10**12)
        self.host_alloc_flags = types.SimpleNamespace(DEVICEMAP=2)
        self.device_attribute = types.SimpleNamespace(
            INTEGRATED="integrated", CAN_MAP_HOST_MEMORY="map"
        )

        def memcpy_htod_async(target: int, source: np.ndarray, stream: PyStream) -> None:
            assert source.flags.c_contiguous
            size = source.nbytes
            guarded(core.copy_in)(target, source.ctypes.data, size, stream.core, source)

        def memcpy_dtoh_async(target: np.ndarray, source: int, stream: PyStream) -> None:
            assert target.flags.c_contiguous
            size = target.nbytes
            guarded(core.copy_out)(target.ctypes.data, source, size, stream.core, target)

        def memset_d8_async(target: int, value: int, size: int, stream: PyStream) -> None:
            assert value == 0
            guarded(core.zero)(target, size, stream.core)

        self.memcpy_htod_async = memcpy_htod_async
        self.memcpy_dtoh_async = memcpy_dtoh_async
        self.memset_d8_async = memset_d8_async

    def init(self) -> None:
        pass


class _Based(np.ndarray):
    """An array whose `base` is what the test says, as pycuda's page-locked arrays have it."""

    given: Any = None

    @property
    def base(self) -> Any:  # type: ignore[override]
        return self.given
