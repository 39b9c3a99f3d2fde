"""A GPU that is not there: pycuda's driver module and TensorRT's, as far as the runner uses them.

Device memory is host memory whose addresses are real, and an engine's content is an ONNX graph that
ONNX Runtime runs on what lies at those addresses. So shapes, bytes, copies, order and clean-up are
real; what TensorRT and CUDA themselves do is not.
"""

from __future__ import annotations

import ctypes
import threading
import types
from typing import Any

import numpy as np
import onnxruntime


class FakeDriver:
    """Stands for `pycuda.driver`; refuses what CUDA would refuse."""

    def __init__(self) -> None:
        outer = self
        self.current: dict[int, int] = {}  # thread -> depth of its context stack
        self.allocated: dict[int, Any] = {}
        self.memory_left = 10**12
        self.retained = 0

        class Error(Exception):
            pass

        class MemoryError_(Error):
            pass

        class Allocation:
            def __init__(self, size: int) -> None:
                self.block = ctypes.create_string_buffer(size)
                self.size = size
                outer.allocated[int(self)] = self

            def __int__(self) -> int:
                return ctypes.addressof(self.block)

            def free(self) -> None:
                outer.need_context()
                del outer.allocated[int(self)]

        class Stream:
            handle = 7

            def __init__(self) -> None:
                outer.need_context()

            def synchronize(self) -> None:
                outer.need_context()

        class Primary:
            def push(self) -> None:
                me = threading.get_ident()
                outer.current[me] = outer.current.get(me, 0) + 1

            def detach(self) -> None:
                outer.retained -= 1

        class Context:
            @staticmethod
            def pop() -> None:
                outer.current[threading.get_ident()] -= 1

        class Device:
            def __init__(self, index: int) -> None:
                assert index == 0

            def compute_capability(self) -> tuple[int, int]:
                return (8, 9)

            def name(self) -> str:
                return "Fake card"

            def retain_primary_context(self) -> Primary:
                outer.retained += 1
                return Primary()

        self.Error, self.MemoryError = Error, MemoryError_
        self.Allocation, self.Stream, self.Context, self.Device = (
            Allocation,
            Stream,
            Context,
            Device,
        )

    def init(self) -> None:
        pass

    def need_context(self) -> None:
        if not self.current.get(threading.get_ident()):
            raise self.Error("invalid device context")

    def mem_alloc(self, size: int) -> Any:
        self.need_context()
        if size > self.memory_left:
            raise self.MemoryError("out of memory")
        return self.Allocation(size)

    def memcpy_htod_async(self, target: Any, source: np.ndarray, stream: Any) -> None:
        self.need_context()
        assert source.flags.c_contiguous and source.nbytes <= target.size and stream.handle == 7
        ctypes.memmove(int(target), source.ctypes.data, source.nbytes)

    def memcpy_dtoh_async(self, target: np.ndarray, source: Any, stream: Any) -> None:
        self.need_context()
        assert target.flags.c_contiguous and target.nbytes <= source.size and stream.handle == 7
        ctypes.memmove(target.ctypes.data, int(source), target.nbytes)


class FakeEngine:
    def __init__(self, driver: FakeDriver, content: bytes, profile: tuple[int, int, int]) -> None:
        self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self.driver, self.profile = driver, profile
        self.inputs = {i.name: i for i in self.session.get_inputs()}
        self.names = [*self.inputs, *(o.name for o in self.session.get_outputs())]
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_dtype(self, name: str) -> str:
        return "float"

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        assert index == 0
        return [(n, *self.inputs[name].shape[1:]) for n in self.profile]

    def create_execution_context(self) -> Any:
        self.driver.need_context()
        return FakeExecution(self)


class FakeExecution:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.profile
        self.shapes[name] = tuple(shape)
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
        return address in self.engine.driver.allocated

    def execute_async_v3(self, stream_handle: int) -> bool:
        self.engine.driver.need_context()
        feed = {n: self._at(n, self.shapes[n]).copy() for n in self.engine.inputs}
        outputs = [o.name for o in self.engine.session.get_outputs()]
        for name, array in zip(outputs, self.engine.session.run(outputs, feed), strict=True):
            self._at(name, array.shape)[...] = array
        return stream_handle == 7

    def _at(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        block = self.engine.driver.allocated[self.addresses[name]]
        count = int(np.prod(shape))
        assert count * 4 <= block.size
        return np.frombuffer(block.block, np.float32, count).reshape(shape)


def fake_tensorrt(
    driver: FakeDriver, version: str, profile: tuple[int, int, int] = (1, 1, 4)
) -> types.ModuleType:
    """Stands for `tensorrt` or `tensorrt_rtx`; engines run with that profile in every dimension."""
    module: Any = types.ModuleType("tensorrt")
    module.__version__ = version
    module.nptype = lambda kind: {"float": np.float32}[kind]

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
            return FakeEngine(driver, content, profile)

    module.ILogger, module.Runtime = ILogger, Runtime
    return module
