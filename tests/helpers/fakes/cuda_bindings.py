"""cuda-bindings' driver module for a GPU that is not there: a face of `cuda.FakeCuda`."""

from __future__ import annotations

import ctypes
import enum
import types
from typing import Any

from helpers.fakes.cuda import CudaRefused, Event, FakeCuda, Stream
from helpers.kernels.emulated_frames import Kernel


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_IMAGE = 200
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_NOT_FOUND = 500
    CUDA_ERROR_NOT_READY = 600
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900


class CUstream:
    def __init__(self, number: int) -> None:
        self.number = number

    def __int__(self) -> int:
        return self.number


class CUevent(Event):
    pass


def fake_bindings(core: FakeCuda) -> types.ModuleType:
    """Stands for `cuda.bindings.driver` on the same device; every function gives its status."""
    module: Any = types.ModuleType("cuda.bindings.driver")
    module.CUresult, module.CUstream, module.CUevent = CUresult, CUstream, CUevent
    module.CU_MEMHOSTALLOC_DEVICEMAP = 2
    module.CUstream_flags = types.SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
    module.CUstreamCaptureMode = types.SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)
    module.CUdevice_attribute = types.SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR="major",
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR="minor",
        CU_DEVICE_ATTRIBUTE_INTEGRATED="integrated",
        CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY="map",
    )
    module.replays = 0

    def stream(raw: CUstream) -> Stream:
        return core.find_stream(int(raw))

    def retain(device: int) -> str:
        core.retained += 1
        return "context"

    def release(device: int) -> None:
        core.retained -= 1

    def end_capture(raw: CUstream) -> Any:
        return core.end_capture(stream(raw))

    def launch_graph(graph: Any, raw: CUstream) -> None:
        core.need_context()
        if id(graph) not in core.graphs:
            raise CudaRefused("INVALID_VALUE")
        module.replays += 1
        for work in graph:
            stream(raw).add(work)

    def launch(kernel: Kernel, *numbers: Any) -> None:
        *sizes, shared, raw, pointers, extra = numbers
        assert (shared, extra) == (0, 0)
        first = ctypes.c_void_p.from_address(pointers).value
        assert first is not None
        argument = ctypes.string_at(first, kernel.size)
        core.launch(kernel, sizes[:3], sizes[3:], argument, stream(raw))

    def synchronise(raw: CUstream) -> None:
        core.need_context()
        stream(raw).run()

    flags = {"major": 8, "minor": 9, "map": 1}
    functions: dict[str, Any] = {
        "cuInit": lambda flag: None,
        "cuDeviceGet": lambda index: 0,
        "cuDeviceGetName": lambda length, device: b"Fake card".ljust(length, b"\0"),
        "cuDeviceGetAttribute": lambda a, d: flags.get(a, int(core.integrated)),
        "cuDevicePrimaryCtxRetain": retain,
        "cuDevicePrimaryCtxRelease": release,
        "cuCtxPushCurrent": lambda context: core.push(),
        "cuCtxPopCurrent": lambda: core.pop() or "context",
        "cuMemGetInfo": lambda: (core.memory_left, 10**12),
        "cuMemAlloc": lambda size: core.allocate(size, core.device),
        "cuMemFree": lambda address: core.free(address, core.device),
        "cuMemHostAlloc": lambda size, flag: core.allocate(size, core.host),
        "cuMemFreeHost": lambda address: core.free(address, core.host),
        "cuMemHostGetDevicePointer": lambda address, flag: address,
        "cuMemcpyHtoDAsync": lambda t, s, n, raw: core.copy_in(t, s, n, stream(raw), None),
        "cuMemcpyDtoHAsync": lambda t, s, n, raw: core.copy_out(t, s, n, stream(raw), None),
        "cuMemsetD8Async": lambda t, value, n, raw: core.zero(t, n, stream(raw)),
        "cuStreamCreate": lambda flag: CUstream(core.make_stream().number),
        "cuStreamSynchronize": synchronise,
        "cuStreamDestroy": lambda raw: core.need_context(),
        "cuStreamWaitEvent": lambda raw, event, flag: core.wait(stream(raw), event),
        "cuEventCreate": lambda flag: CUevent(),
        "cuEventRecord": lambda event, raw: core.record(event, stream(raw)),
        "cuEventSynchronize": core.synchronise_event,
        "cuEventDestroy": lambda event: core.need_context(),
        "cuEventElapsedTime": core.elapsed,
        "cuModuleLoadData": core.load,
        "cuModuleUnload": lambda loaded: core.need_context(),
        "cuModuleGetFunction": lambda loaded, name: core.kernel(loaded, name.decode()),
        "cuLaunchKernel": launch,
        "cuStreamBeginCapture": lambda raw, mode: core.begin_capture(stream(raw)),
        "cuStreamEndCapture": end_capture,
        "cuGraphInstantiate": lambda graph, flag: core.make_graph(graph),
        "cuGraphDestroy": core.destroy_graph,
        "cuGraphExecDestroy": core.destroy_graph,
        "cuGraphLaunch": launch_graph,
    }

    def face(function: Any) -> Any:
        def call(*arguments: Any) -> tuple[Any, ...]:
            try:
                result = function(*arguments)
            except CudaRefused as error:
                return (CUresult[f"CUDA_ERROR_{error.code}"], None)
            if result is None:
                return (CUresult.CUDA_SUCCESS,)
            several = isinstance(result, tuple)
            return (CUresult.CUDA_SUCCESS, *(result if several else (result,)))

        return call

    for name, function in functions.items():
        setattr(module, name, face(function))
    module.cuGetErrorString = lambda status: (CUresult.CUDA_SUCCESS, status.name.encode())
    return module
