"""ONNX Runtime with a CUDA provider for a GPU that is not there, around the real package.

Sessions compute on the CPU. How the provider fails was seen with onnxruntime-gpu 1.31.1, on a
machine without a GPU and with stand-ins for the driver: a library that cannot be loaded leaves a
session on the CPU without an error; an error of CUDA is printed and the CPU taken, at loading and
while running, unless `enable_fallback` is 0. Versions before 1.23 ignore that argument.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
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
    """

    def __init__(self, providers: Sequence[str] = (CUDA, CPU), cuda_version: str = "13.0") -> None:
        super().__init__("onnxruntime")
        self.__version__ = "1.31.1"
        self.__file__ = "/nowhere/onnxruntime/__init__.py"
        self.package_name = "onnxruntime-gpu"
        self.cuda_version = cuda_version
        self.SessionOptions = onnxruntime.SessionOptions
        self.old = False
        self.loads = True
        self.refuses: str | None = None
        self.fails: str | None = None
        self.options: list[dict[str, str]] = []
        self.fed: set[np.dtype[Any]] = set()
        self.preloaded = 0
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
                first = providers[0] if providers else CPU
                name, options = (first, {}) if isinstance(first, str) else first
                if name == CUDA and fake.loads and fake.allows(options, self._falls_back):
                    self._runs_on = [CUDA, CPU]
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
                    if fake.fails is not None:
                        if not self._falls_back:
                            raise EPFail(fake.fails)
                        self._runs_on = [CPU]
                return self._session.run(output_names, input_feed, run_options)

        self.InferenceSession = InferenceSession

    def allows(self, options: dict[str, str], falls_back: bool) -> bool:
        """Whether a session opens on the GPU; without a fallback, its refusal is an error."""
        error = self.refuses
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


def install_onnxruntime(monkeypatch: pytest.MonkeyPatch, fake: FakeOnnxRuntime) -> None:
    """Put it in the place of the real package."""
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
