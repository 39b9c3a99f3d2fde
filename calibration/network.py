"""A bundle's three graphs, held in memory and run by ONNX Runtime, with access to inner tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from hsnet_trt.runtime.bundle.manifest import PackedLevel
from hsnet_trt.runtime.matching.graphs import SUPPORTS, Tensors
from hsnet_trt.runtime.matching.runner import Limits
from hsnet_trt.runtime.ort.limits import threads

Seen = Callable[[str, str, npt.NDArray[Any]], None]  # graph, tensor, value


class MemoryRunner:
    """The graphs as ONNX Runtime sessions; a `hsnet_trt.runtime.matching.runner.Runner`.

    Q/DQ pairs are computed as written, in float32: this measures the cost of quantisation, not the
    integer kernels of this CPU.
    """

    backend, device, precision, frames = "onnxruntime", "CPU", "fp32", None
    columns = False  # INT8 has no plugin
    # One at a time, so that memory does not grow with the number of shots.
    limits = Limits(images=1, shots=1, queries=1, supports=1)

    def __init__(
        self,
        graphs: Mapping[str, onnx.ModelProto],
        taps: Mapping[str, list[str]] | None = None,
        seen: Seen = lambda graph, tensor, value: None,
        packing: Sequence[PackedLevel] = (),
    ) -> None:
        """Make the sessions.

        Args:
            graphs: features, support and match, or those of them that will be run.
            taps: for each graph, the tensors (or inputs) that are passed to `seen` at each run.
            seen: called with each value; it must not keep a reference to it.
            packing: levels of a packed `match`; empty for other lowerings.
        """
        self._taps, self._seen, self.packing = dict(taps or {}), seen, packing
        support = graphs.get("support")
        self.contrast = support is not None and len(support.graph.output) > len(SUPPORTS)
        self._sessions = {
            name: _session(_tapped(graph, self._taps.get(name, [])))
            for name, graph in graphs.items()
        }

    def having(self, graphs: Mapping[str, onnx.ModelProto]) -> MemoryRunner:
        """The same runner with some graphs replaced; the other sessions are shared."""
        twin = MemoryRunner(graphs, packing=self.packing)
        twin._sessions = {**self._sessions, **twin._sessions}
        twin.contrast = self.contrast
        return twin

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run `graph` once; all its outputs, tapped tensors included."""
        session = self._sessions[graph]
        names = [output.name for output in session.get_outputs()]
        feed = {
            spec.name: np.ascontiguousarray(inputs[spec.name], _type(spec.type))
            for spec in session.get_inputs()
        }
        found = dict(zip(names, session.run(names, feed), strict=True))
        for tensor in self._taps.get(graph, []):
            self._seen(graph, tensor, feed[tensor] if tensor in feed else found[tensor])
        return found

    def close(self) -> None:
        """Free the sessions."""
        self._sessions.clear()


def _tapped(graph: onnx.ModelProto, tensors: list[str]) -> bytes:
    twin = onnx.ModelProto()
    twin.CopyFrom(graph)
    known = {value.name for value in (*twin.graph.input, *twin.graph.output)}
    for name in tensors:
        if name not in known:
            twin.graph.output.append(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            )
    content: bytes = twin.SerializeToString()
    return content


def _session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _type(name: str) -> Any:
    return {"tensor(float16)": np.float16, "tensor(int64)": np.int64}.get(name, np.float32)
