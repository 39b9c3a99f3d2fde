"""One TensorRT engine: its tensors, its execution context, and its launch.

TensorRT's Python API, "Performing inference": tensors are bound by address, the caller provides the
context's workspace, and `execute_async_v3` enqueues the work in a stream.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device import kernel_cache
from hsnet_trt.runtime.engines.compatibility import REBUILD
from hsnet_trt.runtime.matching.graphs import COLUMN_INPUTS, names_of

_log = logging.getLogger("hsnet_trt.tensorrt")


class Engine:
    """A deserialised engine with one execution context. Not thread-safe: its owner locks it.

    Attributes:
        name: features, support or match.
        inputs, outputs: names of its tensors.
        types: NumPy type of each tensor.
        least: the smallest shape of each input.
        most: the largest shape of each tensor.
        workspace: bytes of scratch memory that a call needs.
        shaped: number of changes of the input shapes; a graph captured before the last is stale.
        capturable: whether the caller should capture launches in a CUDA graph; TensorRT for RTX
            captures and replays its own.
    """

    def __init__(
        self,
        name: str,
        file: str,
        engine: Any,
        trt: Any,
        logger: Any,
        cache: Path | None,
        *,
        contrast: bool = False,
    ) -> None:
        """Check the engine's tensors and create its execution context.

        Args:
            name: "features", "support" or "match".
            file: the engine's file name in the bundle, for errors.
            engine: the deserialised engine.
            trt: the module that deserialised it, `tensorrt` or `tensorrt_rtx`.
            logger: the process's `shared_logger`.
            cache: file in which TensorRT for RTX keeps compiled kernels; None for no cache.
            contrast: whether the network has a background contrast.

        Raises:
            BackendError: the tensors are not those of this version, or no context can be created.
        """
        self.name = name
        self._engine, self._trt, self._logger = engine, trt, logger
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        columns = name == "match" and COLUMN_INPUTS[-1] in names
        self.inputs, self.outputs = names_of(name, contrast=contrast, columns=columns)
        if set(names) != {*self.inputs, *self.outputs}:
            raise BackendError(
                f"{file} is not an engine of this version",
                expected=f"{', '.join(self.inputs)} -> {', '.join(self.outputs)}",
                found=", ".join(names),
                fix="build the engines again",
            )
        self.types = {n: np.dtype(trt.nptype(engine.get_tensor_dtype(n))) for n in names}
        profile = {n: engine.get_tensor_profile_shape(n, 0) for n in self.inputs}
        self.least = {n: tuple(shapes[0]) for n, shapes in profile.items()}
        self.workspace = int(engine.device_memory_size_v2)
        self.shaped = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._memory: tuple[int, int] | None = None
        self._cache_file, self._cache = cache, None
        self._config: Any = None
        self.capturable = not hasattr(trt, "CudaGraphStrategy")
        self._execution = self._make_context()
        self.most = {n: tuple(shapes[2]) for n, shapes in profile.items()}
        self.shape(self.most)
        self.most.update({n: self.output_shape(n) for n in self.outputs})

    def use_workspace(self, address: int, size: int) -> None:
        """Give the context its workspace: at least `workspace` bytes, aligned to 256."""
        self._memory = (address, size)
        self._execution.set_device_memory(address, size)

    def bind(self, name: str, address: int) -> None:
        """Bind a tensor to its device memory; no-op if the address is unchanged.

        Raises:
            BackendError: TensorRT refuses the address.
        """
        if self._addresses.get(name) != address:
            self._ensure_context()
            if not self._execution.set_tensor_address(name, address):
                raise self.failure(f"no memory could be bound to {name}")
            self._addresses[name] = address

    def shape(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Set the input shapes; no-op if unchanged.

        Raises:
            BackendError: a shape is outside the profile.
        """
        changed = False
        for name, shape in shapes.items():
            if self._shapes.get(name) == tuple(shape):
                continue
            self._shapes.pop(name, None)
            self._ensure_context()
            if not self._execution.set_input_shape(name, tuple(shape)):
                raise self.failure(f"{name} {list(shape)} lies outside its profile")
            self._shapes[name] = tuple(shape)
            changed = True
        if changed:
            self.shaped += 1
            unknown = self._execution.infer_shapes()
            if unknown:
                raise self.failure(f"the shapes of {', '.join(unknown)} are not known")

    def output_shape(self, name: str) -> tuple[int, ...]:
        """Shape of an output for the current input shapes."""
        return tuple(int(n) for n in self._execution.get_tensor_shape(name))

    def launch(self, stream: int, *, capturing: bool = False) -> None:
        """Enqueue the engine in a stream.

        If that fails, the execution context is created again and the launch retried once, but not
        while the stream is being captured.

        Args:
            stream: handle of the CUDA stream.
            capturing: whether that stream is being captured.

        Raises:
            BackendError: the launch failed, and so did the retry.
        """
        if self._execution.execute_async_v3(stream):
            return
        if capturing:
            raise self.failure("the launch failed")
        reason = self._logger.take_error()
        _log.warning("%s failed (%s); its context is made anew", self.name, reason)
        addresses, shapes = self._addresses, self._shapes
        self._addresses, self._shapes = {}, {}
        self._execution = None
        self.shape(shapes)
        for name, address in addresses.items():
            self.bind(name, address)
        if not self._execution.execute_async_v3(stream):
            raise self.failure("the launch failed, also with a new context")

    def close(self) -> None:
        """Save the kernel cache, if there is one, and release the context and the engine."""
        if self._cache is not None and self._cache_file is not None:
            kernel_cache.keep(self._cache, self._cache_file)
        self._execution = None
        self._cache = self._config = self._engine = None

    def failure(self, what: str) -> BackendError:
        """An error that carries TensorRT's latest message."""
        return BackendError(
            f"TensorRT failed in {self.name}: {what}",
            found=self._logger.take_error(),
            fix=REBUILD,
        )

    def _ensure_context(self) -> None:
        """Create the execution context again if that failed before, or a launch did."""
        if self._execution is None:
            self._execution = self._make_context()
            if self._memory is not None:
                self._execution.set_device_memory(*self._memory)

    def _make_context(self) -> Any:
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        make: Callable[[], Any]
        if not self.capturable:
            config = self._engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(strategy)
            config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            if self._cache_file is not None and self._cache is None:
                self._cache = kernel_cache.open_cache(config, self._cache_file)
            if self._cache is not None:
                config.set_runtime_cache(self._cache)
            self._config = config  # the Python bindings do not keep it alive for the context

            def make() -> Any:
                return self._engine.create_execution_context(config)
        else:

            def make() -> Any:
                return self._engine.create_execution_context(strategy)

        context = make()
        if context is None:
            raise self.failure("no execution context can be made")
        return context
