"""ONNX Runtime with a CUDA provider for a GPU that is not there, around the real package.

Sessions compute on the CPU, on arrays or, given a `cuda.FakeCuda`, on what lies at the bound
addresses, when the stream's turn comes. How the provider fails was seen with onnxruntime-gpu
1.31.1, on a machine without a GPU and with stand-ins for the driver: a library that cannot be
loaded leaves a session on the CPU without an error; an error of CUDA is printed and the CPU taken,
at loading and while running, unless `enable_fallback` is 0. Versions before 1.23 ignore that
argument. CUDA graphs are kept by number and thread, and captured in the driver's global mode, as
its source has it.
"""

from __future__ import annotations

import sys
import threading
import time
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from helpers.fakes.cuda import FakeCuda
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

from hsnet_trt.runtime.device.machine import Driver, Gpu

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
GPU = Gpu(0, "Fake card", "9.0", 80 * 2**30, False)
LIBRARIES = ("libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudart.so.13")
CUDNN = "libcudnn.so.9"
# Those the provider's library of 1.31.1 takes; any other is an error.
OPTIONS = {
    "arena_extend_strategy", "cudnn_conv_algo_search", "cudnn_conv_use_max_workspace", "device_id",
    "do_copy_in_default_stream", "enable_cuda_graph", "fuse_conv_bias", "gpu_mem_limit",
    "has_user_compute_stream", "prefer_nhwc", "sdpa_kernel", "use_ep_level_unified_stream",
    "use_tf32", "user_compute_stream",
}  # fmt: skip


class FakeOnnxRuntime(types.ModuleType):
    """The module, and what happened to it.

    Attributes:
        old: whether it is of a version before 1.23.
        loads: whether the provider's library can be loaded.
        refuses: the error that opening a session on the GPU ends with.
        fails: the error that running one there ends with.
        options: of the provider, for each session that was opened on the GPU.
        fed: the types that sessions on the GPU were fed.
        captures: how many CUDA graphs were captured.
        replays: how many were replayed.
        waits: how many runs on device memory waited for their stream.
        uncapturable: the error that a capture ends with.
        no_graphs: the error that opening a session with CUDA graphs ends with.
        spoil: what is done to the outputs of a run on device memory.
    """

    def __init__(
        self,
        providers: Sequence[str] = (CUDA, CPU),
        cuda_version: str = "13.0",
        device: FakeCuda | None = None,
    ) -> None:
        super().__init__("onnxruntime")
        self.__version__ = "1.31.1"
        self.__file__ = "/nowhere/onnxruntime/__init__.py"
        self.package_name = "onnxruntime-gpu"
        self.cuda_version = cuda_version
        self.SessionOptions = onnxruntime.SessionOptions
        self.RunOptions = onnxruntime.RunOptions
        self.old = False
        self.loads = True
        self.refuses: str | None = None
        self.fails: str | None = None
        self.options: list[dict[str, str]] = []
        self.fed: set[np.dtype[Any]] = set()
        self.preloaded = 0
        self.captures = self.replays = self.waits = 0
        self.uncapturable: str | None = None
        self.no_graphs: str | None = None
        self.spoil: Callable[[dict[str, np.ndarray]], None] = lambda outputs: None
        self._providers = list(providers)
        fake = self

        class InferenceSession:
            """A session of the real package that says where the provider would run it."""

            def __init__(
                self,
                path_or_bytes: Any,
                sess_options: Any = None,
                providers: Any = None,
                provider_options: Any = None,
                **kwargs: Any,
            ) -> None:
                self._falls_back = int(kwargs.pop("enable_fallback", 1)) == 1 or fake.old
                self._runs_on = [CPU]
                self._options: dict[str, str] = {}
                self._graphs = threading.local()
                first = providers[0] if providers else CPU
                name, options = (first, {}) if isinstance(first, str) else first
                if name == CUDA and fake.loads and fake.allows(options, self._falls_back):
                    self._runs_on, self._options = [CUDA, CPU], options
                    fake.options.append(options)
                self._session = onnxruntime.InferenceSession(
                    path_or_bytes, sess_options, [CPU], provider_options, **kwargs
                )

            def get_providers(self) -> Sequence[str]:
                return self._runs_on

            def disable_fallback(self) -> None:
                self._falls_back = False

            def get_inputs(self) -> Any:
                return self._session.get_inputs()

            def get_outputs(self) -> Any:
                return self._session.get_outputs()

            def run(self, output_names: Any, input_feed: Any, run_options: Any = None) -> Any:
                if self._runs_on == [CUDA, CPU]:
                    fake.fed |= {array.dtype for array in input_feed.values()}
                    self._may_fail()
                    assert self._graph(run_options) is None, "arrays may move: no graph holds them"
                    if self._stream() is not None:
                        self._stream().run()
                return self._session.run(output_names, input_feed)

            def io_binding(self) -> Binding:
                return Binding(self)

            def run_with_iobinding(self, iobinding: Binding, run_options: Any = None) -> None:
                self._may_fail()
                graph, work = self._graph(run_options), iobinding.work()
                if graph is not None:
                    work = self._as_graph(graph, work, iobinding.addresses())
                self._stream().add(work)
                if entry(run_options, "disable_synchronize_execution_providers") != "1":
                    fake.waits += 1
                    self._stream().run()

            def _may_fail(self) -> None:
                if fake.fails is not None:
                    if not self._falls_back:
                        raise EPFail(fake.fails)
                    self._runs_on = [CPU]

            def _stream(self) -> Any:
                number = self._options.get("user_compute_stream")
                return None if number is None else device.find_stream(int(number))

            def _graph(self, run_options: Any) -> int | None:
                if self._options.get("enable_cuda_graph") != "1":
                    return None
                number = int(entry(run_options, "gpu_graph_id") or 0)
                return None if number == -1 else number

            def _as_graph(self, number: int, work: Any, addresses: Any) -> Any:
                """Captured in the driver's global mode, one graph a number and a thread."""
                known = self._graphs.__dict__
                if number in known:
                    assert known[number][1] == addresses, "a graph goes to where it was captured"
                    fake.replays += 1
                    return known[number][0]
                if fake.uncapturable is not None:
                    device.begin_capture(self._stream())
                    raise RuntimeError(fake.uncapturable)
                device.capturing_globally = threading.get_ident()
                time.sleep(0.003)
                device.capturing_globally = None
                fake.captures += 1
                known[number] = (work, addresses)
                return work

        class Binding:
            """What is bound, by address; `onnxruntime.IOBinding` of the CPU does the rest."""

            def __init__(self, session: InferenceSession) -> None:
                self._session = session
                self._bound: list[tuple[bool, str, Any, Any, int]] = []

            def bind_input(
                self,
                name: Any,
                device_type: Any,
                device_id: Any,
                element_type: Any,
                shape: Any,
                buffer_ptr: Any,
            ) -> None:
                assert (device_type, device_id) == ("cuda", 0)
                self._bound.append((True, name, element_type, shape, buffer_ptr))

            def bind_output(
                self,
                name: Any,
                device_type: Any = "cpu",
                device_id: Any = 0,
                element_type: Any = None,
                shape: Any = None,
                buffer_ptr: Any = None,
            ) -> None:
                assert (device_type, device_id) == ("cuda", 0)
                self._bound.append((False, name, element_type, shape, buffer_ptr))

            def addresses(self) -> Any:
                return [(name, tuple(shape), address) for _, name, _, shape, address in self._bound]

            def work(self) -> Callable[[], None]:
                bound = tuple(self._bound)

                def run() -> None:
                    real = self._session._session.io_binding()
                    outputs = {}
                    for is_input, name, kind, shape, address in bound:
                        memory = device.view(address, kind, shape)
                        bind = real.bind_input if is_input else real.bind_output
                        bind(name, "cpu", 0, kind, shape, memory.ctypes.data)
                        if not is_input:
                            outputs[name] = memory
                    fake.fed |= {np.dtype(kind) for is_input, _, kind, *_ in bound if is_input}
                    self._session._session.run_with_iobinding(real)
                    fake.spoil(outputs)

                return run

        self.InferenceSession, self.IOBinding = InferenceSession, Binding

    def allows(self, options: dict[str, str], falls_back: bool) -> bool:
        """Whether a session opens on the GPU; without a fallback, its refusal is an error."""
        error = self.refuses
        if options.get("enable_cuda_graph") == "1":
            error = error or self.no_graphs
        if set(options) - OPTIONS:
            error = f"Unknown provider option: {set(options) - OPTIONS}"
        if error is not None and not falls_back:
            raise RuntimeError(error)
        return error is None

    def get_available_providers(self) -> list[str]:
        """What the package was built with."""
        return self._providers

    def preload_dlls(
        self, cuda: bool = True, cudnn: bool = True, msvc: bool = True, directory: Any = None
    ) -> None:
        """Prints what it misses, as the real one does."""
        self.preloaded += 1
        print("Failed to load libcublasLt.so.13: no such file")


def entry(run_options: Any, name: str) -> str | None:
    """An entry of the real package's run options; None if it was not set."""
    try:
        return None if run_options is None else str(run_options.get_run_config_entry(name))
    except RuntimeError:
        return None


def install_onnxruntime(monkeypatch: pytest.MonkeyPatch, fake: FakeOnnxRuntime) -> None:
    """Put it in the place of the real package."""
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)


class Machine:
    """A machine with a GPU: its driver and the libraries that its loader finds."""

    def __init__(self) -> None:
        self.driver = Driver("13.0", (GPU,))
        self.libraries = {*LIBRARIES, CUDNN}

    def load(self, library: str) -> str | None:
        return None if library in self.libraries else f"{library}: not found"
