"""TensorRT for a GPU that is not there.

An engine's content is an ONNX graph that ONNX Runtime runs on what lies at the bound addresses. So
shapes, bytes, order and clean-up are real; what TensorRT itself does is not.
"""

from __future__ import annotations

import types
import weakref
from typing import Any

import numpy as np
import onnxruntime
from helpers.fakes.cuda import FakeCuda

NUMPY: dict[str, Any] = {"float": np.float32, "half": np.float16, "int": np.int32}
TYPES = {"tensor(float16)": "half", "tensor(int32)": "int"}


class FakeEngine:
    def __init__(self, driver: FakeCuda, content: bytes, profile: tuple[int, int, int]) -> None:
        self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self.driver, self.profile = driver, profile
        self.inputs = {i.name: i for i in self.session.get_inputs()}
        self.names = [*self.inputs, *(o.name for o in self.session.get_outputs())]
        tensors = (*self.session.get_inputs(), *self.session.get_outputs())
        self.types = {t.name: TYPES.get(t.type, "float") for t in tensors}
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
    module.runtimes = weakref.WeakSet()

    class ILogger:
        class Severity:
            INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    class Runtime:
        """The first one's logger is that of all others, too, as long as one of them lives."""

        def __init__(self, logger: Any) -> None:
            driver.need_context()
            registered = next((r.logger for r in module.runtimes), logger)
            if logger is not registered:
                registered.log(ILogger.Severity.WARNING, "The logger differs; it is ignored")
            self.logger = registered
            module.runtimes.add(self)

        def deserialize_cuda_engine(self, content: bytes) -> FakeEngine | None:
            if content.startswith(b"bad"):
                self.logger.log(ILogger.Severity.ERROR, "the magic tag does not match")
                return None
            module.engines.append(FakeEngine(driver, content, profile))
            return module.engines[-1]

    module.ILogger, module.Runtime = ILogger, Runtime
    return module
