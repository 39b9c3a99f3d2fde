"""Load compiled kernels and launch them through the CUDA driver's C interface, with ctypes.

pycuda launches only on streams that it created, but a plugin gets TensorRT's stream. ctypes needs
only the driver. Everything runs in the calling thread's current CUDA context, which is TensorRT's
during ``enqueue``.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hsnet_trt.errors import BackendError
from hsnet_trt.trt_plugins.compile_kernels import FATBIN
from hsnet_trt.trt_plugins.plan import KERNELS, Launch, Plan, Problem
from hsnet_trt.trt_plugins.sizes import DOMAIN, OP

_MULTIPROCESSORS = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
_NO_BINARY = 209  # CUDA_ERROR_NO_BINARY_FOR_GPU
_BAD_PTX = 222  # CUDA_ERROR_UNSUPPORTED_PTX_VERSION


@dataclass(frozen=True)
class _Loaded:
    """The kernels' module, loaded in one context."""

    functions: dict[str, ctypes.c_void_p]
    module: ctypes.c_void_p
    multiprocessors: int


class CorrelationKernels:
    """The compiled kernels, loaded once into every CUDA context that uses them.

    Safe to use from several threads. The kernels stay loaded as long as the context exists.

    Args:
        kernels: the file that ``compile_kernels`` wrote, or its content.

    Raises:
        BackendError: the file cannot be read.
    """

    def __init__(self, kernels: Path | bytes = FATBIN) -> None:
        self._name = kernels.name if isinstance(kernels, Path) else FATBIN.name
        try:
            self._image = kernels.read_bytes() if isinstance(kernels, Path) else kernels
        except OSError as error:
            raise BackendError(
                f"the compiled kernels of {DOMAIN}::{OP} cannot be read",
                expected=str(kernels),
                found=error.strerror or type(error).__name__,
                fix="run python -m hsnet_trt.trt_plugins.compile_kernels where nvcc is installed",
            ) from error
        self._loaded: dict[int, _Loaded] = {}
        self._lock = threading.Lock()

    def launch(self, plan: Plan, problem: Problem, stream: int) -> None:
        """Launch the op's kernel on a stream; does not wait for it.

        Args:
            plan: the call's sizes.
            problem: its parameter, from ``plan.problem``; ``multiprocessors`` is filled in.
            stream: handle of a CUstream of the current context; 0 for the default stream.

        Raises:
            BackendError: there is no driver or context, no code for this GPU, or a launch failed.
        """
        self.start(self.choose(plan), problem, stream)

    def choose(self, plan: Plan) -> Launch:
        """Return the kernel and grid of a call on the current context's GPU.

        Raises:
            BackendError: as of ``launch``.
        """
        return plan.launch(self._in_current_context().multiprocessors)

    def start(self, launch: Launch, problem: Problem, stream: int) -> None:
        """Launch a given form of the kernel; see ``launch``."""
        loaded = self._in_current_context()
        function = loaded.functions[launch.kernel]
        problem.multiprocessors = loaded.multiprocessors
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(problem))
        status = cuda_driver().cuLaunchKernel(
            function,
            *(ctypes.c_uint(size) for size in launch.grid),
            ctypes.c_uint(launch.threads),
            ctypes.c_uint(1),
            ctypes.c_uint(1),
            ctypes.c_uint(0),
            ctypes.c_void_p(stream),
            parameters,
            None,
        )
        check_status(status, f"launching {launch.kernel}")

    def _in_current_context(self) -> _Loaded:
        driver = cuda_driver()
        context = ctypes.c_void_p()
        check_status(driver.cuCtxGetCurrent(ctypes.byref(context)), "cuCtxGetCurrent")
        if not context.value:
            raise BackendError(
                f"{DOMAIN}::{OP}: no CUDA context is current on this thread",
                fix="create one first, or call from TensorRT",
            )
        number = _number_of(driver, context)
        with self._lock:
            if number not in self._loaded:
                self._loaded[number] = self._load()
            return self._loaded[number]

    def _load(self) -> _Loaded:
        driver = cuda_driver()
        module = ctypes.c_void_p()
        status = driver.cuModuleLoadData(ctypes.byref(module), ctypes.c_char_p(self._image))
        if status in (_NO_BINARY, _BAD_PTX):
            raise BackendError(
                f"{self._name} holds no code of {DOMAIN}::{OP} for this GPU",
                fix="compile the kernels with a CUDA toolkit that knows the GPU, on any machine: "
                "python -m hsnet_trt.trt_plugins.compile_kernels",
            )
        check_status(status, f"loading {self._name}")
        functions = {}
        for suffix in ("f16", "f32"):
            for name in KERNELS:
                symbol = f"hsnet_{name}_{suffix}"
                function = ctypes.c_void_p()
                check_status(
                    driver.cuModuleGetFunction(ctypes.byref(function), module, symbol.encode()),
                    f"finding {symbol}",
                )
                functions[symbol] = function
        device, count = ctypes.c_int(), ctypes.c_int()
        check_status(driver.cuCtxGetDevice(ctypes.byref(device)), "cuCtxGetDevice")
        check_status(
            driver.cuDeviceGetAttribute(ctypes.byref(count), _MULTIPROCESSORS, device),
            "cuDeviceGetAttribute",
        )
        return _Loaded(functions, module, count.value)


def _number_of(driver: Any, context: ctypes.c_void_p) -> int:
    """A context's unique id: a later context (a reset primary one) may have the same address."""
    number = ctypes.c_uint64()
    try:
        check_status(driver.cuCtxGetId(context, ctypes.byref(number)), "cuCtxGetId")
    except AttributeError:  # drivers before CUDA 12 have no cuCtxGetId
        return context.value or 0
    return number.value


@cache
def cuda_driver() -> Any:
    """Return the driver's library, loaded by ctypes.

    Raises:
        BackendError: no driver is installed.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise BackendError(
            f"{DOMAIN}::{OP}: there is no NVIDIA driver on this machine",
            expected=name,
            found=str(error),
            fix="run the engine on a machine with an NVIDIA GPU, or use the native correlation",
        ) from error


def check_status(status: int, action: str) -> None:
    """Raise BackendError, which names the action, unless a driver call's status is 0."""
    if status == 0:
        return
    text = ctypes.c_char_p()
    cuda_driver().cuGetErrorString(ctypes.c_int(status), ctypes.byref(text))
    raise BackendError(
        f"{DOMAIN}::{OP}: {action} failed",
        found=f"CUDA error {status}: {(text.value or b'unknown').decode()}",
        fix="if it follows an earlier error, mend that one first; else report it with the GPU",
    )
