"""One of a bundle's graphs as an ONNX Runtime session on device memory and a given stream.

Tensors are bound by address (`IOBinding`), the stream is set when the session is opened (the
provider's option `user_compute_stream`), and a run only enqueues work in it. With the provider's
`enable_cuda_graph`, ONNX Runtime captures a run as a CUDA graph and replays it. It keeps graphs per
thread, so there is one for each set of shapes and addresses in each thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device.cuda_graphs import CudaGraphs
from hsnet_trt.runtime.device.gpu_lock import GpuLock
from hsnet_trt.runtime.ort.cuda import remedy

_log = logging.getLogger("hsnet_trt")

TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
# Run options: do not wait for the stream at the end of a run; the graph to use, -1 for none.
_STAY_QUEUED, _GRAPH, _NO_GRAPH = "disable_synchronize_execution_providers", "gpu_graph_id", "-1"
# ONNX Runtime frees captured graphs only with their session, so their number is limited.
_MOST_GRAPHS = 32
_MOST_BOUND = 64


class DeviceSession:
    """A `DeviceGraph` by ONNX Runtime. Not thread-safe: its owner locks it.

    Attributes:
        types: NumPy type of each tensor.
        least: the least shape of each input.
        most: the largest shape of each tensor.
        shaped: number of changes of the input shapes.
        capturable: always False, since ONNX Runtime captures by itself.
    """

    capturable = False

    def __init__(
        self,
        name: str,
        session: Any,
        run_options: Any,
        most: Mapping[str, int],
        lock: GpuLock,
    ) -> None:
        """Read the names, types and shapes of the session's tensors.

        Args:
            name: "features", "support" or "match".
            session: an `InferenceSession`, opened on the stream that `launch` is given.
            run_options: the class `onnxruntime.RunOptions`.
            most: the largest size of each named dimension (N, B, S).
            lock: held while work is enqueued.
        """
        self.name = name
        self._session, self._run_options = session, run_options
        self._lock = lock
        self._inputs = {i.name: tuple(i.shape) for i in session.get_inputs()}
        self._outputs = {o.name: tuple(o.shape) for o in session.get_outputs()}
        tensors = (*session.get_inputs(), *session.get_outputs())
        self.types = {t.name: np.dtype(TYPES[t.type]) for t in tensors}
        dims = {**self._inputs, **self._outputs}
        self.least = {n: _sized(shape, dict.fromkeys(most, 1)) for n, shape in dims.items()}
        self.most = {n: _sized(shape, most) for n, shape in dims.items()}
        self.shaped = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._bound: dict[object, Any] = {}
        self._options: dict[int | None, Any] = {}  # by graph
        self._graphs: CudaGraphs | None = None
        self._captured = 0
        self._full = False  # whether it was logged that there are as many as there may be
        self._thread = threading.local()  # its `graphs`: number by shapes and addresses

    def use_graphs(self, graphs: CudaGraphs) -> None:
        """Let ONNX Runtime use CUDA graphs; the session was opened with `enable_cuda_graph`.

        Args:
            graphs: used to end a capture that failed.
        """
        self._graphs = graphs

    def bind(self, name: str, address: int) -> None:
        """Bind a tensor to its device memory."""
        self._addresses[name] = address

    def shape(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Set the input shapes; no-op if unchanged.

        Raises:
            BackendError: a shape is not one of the graph's.
        """
        for name, shape in shapes.items():
            declared = self._inputs[name]
            fixed = zip(shape, declared, strict=False)
            if len(shape) != len(declared) or any(isinstance(d, int) and n != d for n, d in fixed):
                raise BackendError(
                    f"{self.name} does not take {name} in that shape",
                    expected=list(declared),
                    found=list(shape),
                )
            if self._shapes.get(name) != shape:
                self._shapes[name] = tuple(shape)
                self.shaped += 1

    def output_shape(self, name: str) -> tuple[int, ...]:
        """Shape of an output for the current input shapes."""
        dims: dict[str, int] = {}
        for tensor, shape in self._shapes.items():
            dims.update({d: n for d, n in zip(self._inputs[tensor], shape, strict=True) if n != d})
        return _sized(self._outputs[name], dims)

    def launch(self, stream: int, *, capturing: bool = False) -> None:
        """Queue the work in the session's own stream.

        Args:
            stream: its handle.
            capturing: ignored: see `capturable`.

        Raises:
            BackendError: ONNX Runtime or CUDA failed.
        """
        key = (tuple(self._shapes.items()), tuple(self._addresses.items()))
        binding = self._bound.get(key)
        if binding is None:
            if len(self._bound) >= _MOST_BOUND:
                self._bound.clear()
            binding = self._bound[key] = self._bind()
        graph = self._graph(key)
        try:
            self._run(binding, graph)
        except Exception as error:  # its exceptions share no other base
            if graph is None or self._graphs is None:
                raise self._failure(error) from error
            # A failed capture leaves the stream capturing.
            self._graphs.abandon(stream)
            self._graphs = None
            _log.warning("%s goes without CUDA graphs: %s", self.name, str(error)[:300])
            try:
                self._run(binding, None)
            except Exception as again:
                raise self._failure(again) from again

    def close(self) -> None:
        """Release the session."""
        self._bound.clear()
        self._session = None

    def _run(self, binding: Any, graph: int | None) -> None:
        options = self._options.get(graph)
        if options is None:
            options = self._options[graph] = self._run_options()
            options.add_run_config_entry(_STAY_QUEUED, "1")
            options.add_run_config_entry(_GRAPH, _NO_GRAPH if graph is None else str(graph))
        self._session.run_with_iobinding(binding, options)

    def _bind(self) -> Any:
        binding = self._session.io_binding()
        for name, shape in self._shapes.items():
            binding.bind_input(name, "cuda", 0, self.types[name].type, shape, self._addresses[name])
        for name in self._outputs:
            shape = self.output_shape(name)
            binding.bind_output(
                name, "cuda", 0, self.types[name].type, shape, self._addresses[name]
            )
        return binding

    def _graph(self, key: object) -> int | None:
        """The number of the graph to capture or to replay; None to run without."""
        if self._graphs is None:
            return None
        mine: dict[object, int] = self._thread.__dict__.setdefault("graphs", {})
        if key not in mine:
            if self._captured >= _MOST_GRAPHS:
                self._say_that_there_are_enough()
                return None
            if not self._lock.quiet:
                return None
            self._captured += 1
            mine[key] = self._captured
        return mine[key]

    def _say_that_there_are_enough(self) -> None:
        if not self._full:
            self._full = True
            _log.info("%s has %d CUDA graphs, and makes no more", self.name, _MOST_GRAPHS)

    def _failure(self, error: Exception) -> BackendError:
        return BackendError(
            f"ONNX Runtime failed in {self.name}",
            expected=", ".join(f"{name} {list(shape)}" for name, shape in self._shapes.items()),
            found=str(error)[:500],
            fix=remedy(str(error)),
        )


def _sized(shape: tuple[int | str, ...], dims: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(dims[d] if isinstance(d, str) else d for d in shape)
