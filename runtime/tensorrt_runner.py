"""Runs a bundle's engines with TensorRT 10.3 to 11, or TensorRT for RTX, through one code path.

Plain on purpose: one stream, pageable copies, one execution context a graph.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.engine_fit import Host, misfit
from hsnet_trt.runtime.machine import platform_tag
from hsnet_trt.runtime.manifest import EngineFile
from hsnet_trt.runtime.network import GRAPHS, INPUTS, OUTPUTS, Limits, Tensors

_log = logging.getLogger("hsnet_trt.tensorrt")
_REBUILD = "build engines for this machine: hsnet-trt build-engine BUNDLE --target this"


class TensorRTRunner:
    """The three engines on the first GPU. Threads that call `run` take turns."""

    def __init__(self, bundle: Bundle, engines: dict[str, EngineFile]) -> None:
        """Read, check and deserialise the engines.

        Args:
            bundle: where the engines lie.
            engines: for each of features, support and match, the engine that is to run; all of one
                flavour.

        Raises:
            BundleError: an engine was altered; it is not deserialised.
            BackendError: TensorRT, pycuda or a GPU is missing here, or an engine was built for
                something else.
        """
        self.backend = engines["match"].flavour
        self.precision = engines["match"].variant.precision
        self.limits = Limits(
            images=engines["features"].profile["N"].most,
            shots=engines["support"].profile["S"].most,
            queries=engines["match"].profile["B"].most,
            supports=engines["match"].profile["S"].most,
        )
        self._trt, self._cuda = _load(self.backend)
        self._lock = threading.RLock()
        self._graphs: dict[str, _Graph] = {}
        self._runtime: Any = None
        self._stream: Any = None
        device = _first_gpu(self._cuda)
        major, minor = device.compute_capability()
        host = Host(self.backend, self._trt.__version__, f"{major}.{minor}", platform_tag())
        self.device = f"{device.name()} ({self.backend} {host.version})"
        for entry in engines.values():
            reason = misfit(entry, host)
            if reason is not None:
                raise BackendError(f"{entry.file} cannot run here", found=reason, fix=_REBUILD)
        # The primary context is the one that other CUDA libraries in the process use too.
        self._context = device.retain_primary_context()
        try:
            with self._current():
                self._logger = _make_logger(self._trt)
                self._stream = self._cuda.Stream()
                self._runtime = self._trt.Runtime(self._logger)
                for name in GRAPHS:
                    content = bundle.read(engines[name].file)
                    self._graphs[name] = self._deserialise(name, engines[name].file, content)
        except BaseException:
            self.close()
            raise

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run `graph` once; see `network.Runner`.

        Raises:
            BackendError: TensorRT or CUDA failed, for want of memory for instance.
        """
        with self._lock, self._current():
            return self._graphs[graph].run(inputs, self._stream)

    def close(self) -> None:
        """Free engines, buffers and the hold on the GPU's context; harmless when repeated."""
        with self._lock:
            if self._context is None:
                return
            with self._current():
                for graph in self._graphs.values():
                    graph.close()
                self._graphs.clear()
                self._runtime = self._stream = None
            self._context.detach()
            self._context = None

    def _deserialise(self, name: str, file: str, content: bytes) -> _Graph:
        engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise BackendError(
                f"{self.backend} refuses the engine {file}",
                found=self._logger.errors[-1] if self._logger.errors else "no reason given",
                fix=_REBUILD,
            )
        return _Graph(name, file, engine, trt=self._trt, cuda=self._cuda, logger=self._logger)

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Make the GPU's context this thread's; CUDA's errors become ours."""
        self._context.push()
        try:
            yield
        except self._cuda.MemoryError as error:
            raise BackendError(
                "the GPU's memory does not suffice",
                found=error,
                fix="build engines of smaller profiles: build-engine --queries --supports",
            ) from error
        except self._cuda.Error as error:
            raise BackendError("CUDA failed", found=error, fix="see `hsnet-trt doctor`") from error
        finally:
            self._cuda.Context.pop()


class _Graph:
    """One engine with its execution context and its buffers, which grow as needed."""

    def __init__(
        self, name: str, file: str, engine: Any, *, trt: Any, cuda: Any, logger: Any
    ) -> None:
        self._name, self._engine, self._cuda, self._logger = name, engine, cuda, logger
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        if set(names) != {*INPUTS[name], *OUTPUTS[name]}:
            raise BackendError(
                f"{file} is not an engine of this version",
                expected=f"{', '.join(INPUTS[name])} -> {', '.join(OUTPUTS[name])}",
                found=", ".join(names),
                fix="build the engines again",
            )
        self._types = {n: np.dtype(trt.nptype(engine.get_tensor_dtype(n))) for n in names}
        self._least = {n: engine.get_tensor_profile_shape(n, 0)[0][0] for n in INPUTS[name]}
        self._execution = engine.create_execution_context()
        if self._execution is None:
            raise self._failure("its memory cannot be reserved")
        self._buffers: dict[str, tuple[Any, int]] = {}

    def run(self, inputs: Tensors, stream: Any) -> Tensors:
        sent = []  # pageable memory must live until the stream has read it
        for name in INPUTS[self._name]:
            array = _padded(inputs[name], self._least[name])
            array = np.ascontiguousarray(array, dtype=self._types[name])
            if not self._execution.set_input_shape(name, array.shape):
                raise self._failure(f"{name} {list(array.shape)} lies outside its profile")
            self._cuda.memcpy_htod_async(self._buffer(name, array.nbytes), array, stream)
            sent.append(array)
        unknown = self._execution.infer_shapes()
        if unknown:
            raise self._failure(f"the shapes of {', '.join(unknown)} are not known")
        outputs = {}
        for name in OUTPUTS[self._name]:
            shape = tuple(self._execution.get_tensor_shape(name))
            outputs[name] = np.empty(shape, self._types[name])
            self._buffer(name, outputs[name].nbytes)
        if not self._execution.execute_async_v3(stream.handle):
            raise self._failure("the launch failed")
        for name, array in outputs.items():
            self._cuda.memcpy_dtoh_async(array, self._buffers[name][0], stream)
        stream.synchronize()
        counts = [len(inputs[INPUTS[self._name][0]])]
        if self._name == "match":
            counts.append(len(inputs["s2"]))
        kept = tuple(slice(count) for count in counts)
        return {name: array[kept] for name, array in outputs.items()}

    def close(self) -> None:
        for memory, _ in self._buffers.values():
            memory.free()
        self._buffers.clear()
        self._execution = None
        self._engine = None

    def _buffer(self, name: str, size: int) -> Any:
        """Device memory of at least so many bytes, bound to the tensor."""
        memory, held = self._buffers.get(name, (None, 0))
        if held < size:
            if memory is not None:
                del self._buffers[name]
                memory.free()
            memory = self._cuda.mem_alloc(size)
            self._buffers[name] = (memory, size)
            if not self._execution.set_tensor_address(name, int(memory)):
                raise self._failure(f"no memory could be bound to {name}")
        return memory

    def _failure(self, what: str) -> BackendError:
        said = self._logger.errors[-1] if self._logger.errors else None
        return BackendError(f"TensorRT failed in {self._name}: {what}", found=said, fix=_REBUILD)


def _load(flavour: str) -> tuple[Any, Any]:
    """The TensorRT module and pycuda's driver module.

    Raises:
        BackendError: one of them is not installed, or there is no driver.
    """
    package = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}[flavour]
    try:
        trt = importlib.import_module(flavour)
    except (ImportError, OSError) as error:
        raise BackendError(
            f"{flavour} cannot be loaded",
            found=error,
            fix=f"install it: python -m pip install {package}",
        ) from error
    try:
        cuda = importlib.import_module("pycuda.driver")
    except (ImportError, OSError) as error:
        raise BackendError(
            "pycuda cannot be loaded",
            found=error,
            fix="install NVIDIA's driver and pycuda: python -m pip install pycuda",
        ) from error
    return trt, cuda


def _first_gpu(cuda: Any) -> Any:
    try:
        cuda.init()
        return cuda.Device(0)
    except cuda.Error as error:
        raise BackendError(
            "no GPU can be used", found=error, fix="see `hsnet-trt doctor`"
        ) from error


def _make_logger(trt: Any) -> Any:
    """TensorRT's messages go to Python's logging; the last errors are kept for our own messages."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors = [*self.errors[-9:], message]
                _log.error(message)
            elif severity == trt.ILogger.Severity.WARNING:
                _log.warning(message)
            else:
                _log.debug(message)

    return Logger()


def _padded(array: npt.NDArray[Any], least: int) -> npt.NDArray[Any]:
    """Repeat the last item until the profile's least is reached."""
    missing = least - len(array)
    if missing <= 0:
        return array
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
