"""pycuda's driver module, cuda-bindings and TensorRT for a GPU that is not there.

Both CUDA libraries are faces of `fake_cuda.FakeCuda`; an engine's content is an ONNX graph that
ONNX Runtime runs on what lies at the bound addresses. So shapes, bytes, copies, order and clean-up
are real; what TensorRT and CUDA themselves do is not.
"""

from __future__ import annotations

import ctypes
import enum
import importlib.machinery
import sys
import types
from typing import Any

import numpy as np
import onnxruntime
import pytest
from fake_cuda import CudaRefused, Event, FakeCuda, Stream


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
            def __init__(self, name: str) -> None:
                self.name = name

            def prepare(self, kinds: list[str]) -> None:
                (kind,) = kinds
                self.size = int(kind.removesuffix("s"))

            def prepared_async_call(
                self, grid: Any, block: Any, stream: PyStream, argument: bytes
            ) -> None:
                assert len(grid) == len(block) == 3 and len(argument) == self.size
                guarded(core.launch)(self.name, grid, block, argument, stream.core)

        class Module:
            get_function = staticmethod(Function)

        def module_from_buffer(image: bytes) -> Module:
            guarded(core.need_context)()
            return Module()

        self.Error, self.MemoryError = Error, MemoryError_
        self.Stream, self.Event, self.Context, self.Device = PyStream, PyEvent, Context, Device
        self.mem_alloc, self.pagelocked_empty = DeviceAllocation, pagelocked_empty
        self.module_from_buffer = module_from_buffer
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


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_CONTEXT = 201
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
    module.graphs = {}
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
        module.replays += 1
        for work in graph:
            stream(raw).add(work)

    def launch(name: str, *numbers: Any) -> None:
        *sizes, shared, raw, pointers, extra = numbers
        assert (shared, extra) == (0, 0)
        first = ctypes.c_void_p.from_address(pointers).value
        assert first is not None
        size = module.sizes[name]
        core.launch(name, sizes[:3], sizes[3:], ctypes.string_at(first, size), stream(raw))

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
        "cuModuleLoadData": lambda image: core.need_context() or "module",
        "cuModuleUnload": lambda loaded: core.need_context(),
        "cuModuleGetFunction": lambda loaded, name: name.decode(),
        "cuLaunchKernel": launch,
        "cuStreamBeginCapture": lambda raw, mode: core.begin_capture(stream(raw)),
        "cuStreamEndCapture": end_capture,
        "cuGraphInstantiate": lambda graph, flag: graph,
        "cuGraphDestroy": lambda graph: None,
        "cuGraphExecDestroy": lambda graph: None,
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
    from hsnet_trt.runtime.frame_kernels import PREPARE, SETTLE, VOTE

    module.sizes = {"hsnet_settle": SETTLE.size, "hsnet_spin": 8}
    for ending in ("f32", "f16"):
        module.sizes[f"hsnet_prepare_{ending}"] = PREPARE.size
        module.sizes[f"hsnet_vote_{ending}"] = VOTE.size
    return module


def install(
    monkeypatch: pytest.MonkeyPatch,
    driver: FakeDriver,
    trt: types.ModuleType,
    *,
    pycuda: bool = True,
    bindings: bool = False,
) -> types.ModuleType | None:
    """Put the fakes where the runtime imports from; gives cuda-bindings' where it is wanted.

    Nothing is compiled for them, whatever this machine has.
    """
    from hsnet_trt.runtime import frame_kernels

    monkeypatch.setattr(frame_kernels, "find_nvcc", lambda: None)
    spec = importlib.machinery.ModuleSpec
    monkeypatch.setitem(sys.modules, trt.__name__, trt)
    monkeypatch.setattr(trt, "__spec__", spec(trt.__name__, None))
    package = types.ModuleType("pycuda")
    package.__spec__ = spec("pycuda", None) if pycuda else None
    monkeypatch.setitem(sys.modules, "pycuda", package if pycuda else None)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver if pycuda else None)  # type: ignore[arg-type]
    if not bindings:
        monkeypatch.setitem(sys.modules, "cuda.bindings", None)  # type: ignore[arg-type]
        return None
    for name in ("cuda", "cuda.bindings"):
        parent = types.ModuleType(name)
        parent.__spec__ = spec(name, None, is_package=True)
        parent.__path__ = []
        monkeypatch.setitem(sys.modules, name, parent)
    module = fake_bindings(driver)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", module)
    return module


NUMPY: dict[str, Any] = {"float": np.float32, "half": np.float16}


class FakeEngine:
    def __init__(self, driver: FakeCuda, content: bytes, profile: tuple[int, int, int]) -> None:
        self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self.driver, self.profile = driver, profile
        self.inputs = {i.name: i for i in self.session.get_inputs()}
        self.names = [*self.inputs, *(o.name for o in self.session.get_outputs())]
        tensors = (*self.session.get_inputs(), *self.session.get_outputs())
        self.types = {t.name: {"tensor(float16)": "half"}.get(t.type, "float") for t in tensors}
        self.num_io_tensors = len(self.names)
        self.device_memory_size_v2 = 1000
        self.contexts: list[FakeExecution] = []

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_dtype(self, name: str) -> str:
        return self.types[name]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        assert index == 0
        return [(n, *self.inputs[name].shape[1:]) for n in self.profile]

    def create_execution_context(self, strategy: str) -> Any:
        self.driver.need_context()
        assert strategy == "user managed"
        self.contexts.append(FakeExecution(self))
        return self.contexts[-1]


class FakeExecution:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.memory: tuple[int, int] | None = None
        self.broken = False
        self.reshaped = 0

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= self.engine.device_memory_size_v2 and address % 256 == 0
        self.engine.driver.check(address, size)
        self.memory = (address, size)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.profile
        self.shapes[name] = tuple(shape)
        self.reshaped += 1
        return (
            least <= shape[0] <= most
            and list(shape[1:]) == list(self.engine.inputs[name].shape)[1:]
        )

    def infer_shapes(self) -> list[str]:
        return [name for name in self.engine.inputs if name not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        lead = {i.shape[0]: self.shapes[n][0] for n, i in self.engine.inputs.items()}
        output = next(o for o in self.engine.session.get_outputs() if o.name == name)
        return tuple(lead.get(n, n) for n in output.shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address % 256 == 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        driver, engine = self.engine.driver, self.engine
        driver.need_context()
        if self.broken or self.memory is None:
            return False
        addresses, shapes = dict(self.addresses), dict(self.shapes)
        outputs = [o.name for o in engine.session.get_outputs()]
        driver.launches.append("engine")

        def work() -> None:
            assert self.memory is not None
            driver.view(self.memory[0], np.uint8, (self.memory[1],)).fill(0xCD)
            feed = {
                n: driver.view(addresses[n], NUMPY[engine.types[n]], shapes[n]).copy()
                for n in engine.inputs
            }
            for name, array in zip(outputs, engine.session.run(outputs, feed), strict=True):
                driver.view(addresses[name], NUMPY[engine.types[name]], array.shape)[...] = array

        driver.find_stream(stream_handle).add(work)
        return True


def fake_tensorrt(
    driver: FakeCuda, version: str, profile: tuple[int, int, int] = (1, 1, 4)
) -> types.ModuleType:
    """Stands for `tensorrt` or `tensorrt_rtx`; engines run with that profile in every dimension."""
    module: Any = types.ModuleType("tensorrt")
    module.__version__ = version
    module.nptype = lambda kind: NUMPY[kind]
    module.ExecutionContextAllocationStrategy = types.SimpleNamespace(USER_MANAGED="user managed")
    module.engines = []

    class ILogger:
        class Severity:
            INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            driver.need_context()
            self.logger = logger

        def deserialize_cuda_engine(self, content: bytes) -> FakeEngine | None:
            if content.startswith(b"bad"):
                self.logger.log(ILogger.Severity.ERROR, "the magic tag does not match")
                return None
            module.engines.append(FakeEngine(driver, content, profile))
            return module.engines[-1]

    module.ILogger, module.Runtime = ILogger, Runtime
    return module
