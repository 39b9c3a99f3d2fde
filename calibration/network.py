"""A bundle's three graphs held in memory and run by ONNX Runtime, with a view of inner tensors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from hsnet_trt.data.episodes.episode import Episode, Mask
from hsnet_trt.errors import HSNetWarning
from hsnet_trt.runtime.bundle.manifest import PackedLevel, Preprocessing
from hsnet_trt.runtime.matching.encode import encode_shots
from hsnet_trt.runtime.matching.graphs import Limits, Runner, Tensors, run_features, run_match
from hsnet_trt.runtime.pictures.postprocess import segment_logits
from hsnet_trt.runtime.pictures.preprocess import Placement, network_input

Grid = tuple[int, int]
Seen = Callable[[str, str, npt.NDArray[Any]], None]  # graph, tensor, its value


class MemoryRunner:
    """The graphs as sessions; a `hsnet_trt.runtime.matching.graphs.Runner`.

    Q/DQ pairs are computed as they are written, in float32: what is measured is what quantising
    costs and not which integer kernels this CPU happens to have.
    """

    backend, device, precision, frames = "onnxruntime", "CPU", "fp32", None
    # One at a time: memory must not grow with the shots.
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
            graphs: features, support and match, or those that will be run.
            taps: by graph, tensors (or inputs) that `seen` is shown at each run.
            seen: called with each value; it must not keep it.
            packing: of a packed `match`.
        """
        self._taps, self._seen, self.packing = dict(taps or {}), seen, packing
        self._sessions = {
            name: _session(_tapped(graph, self._taps.get(name, [])))
            for name, graph in graphs.items()
        }

    def having(self, graphs: Mapping[str, onnx.ModelProto]) -> MemoryRunner:
        """The same, with some graphs replaced; the other sessions are shared."""
        twin = MemoryRunner(graphs, packing=self.packing)
        twin._sessions = {**self._sessions, **twin._sessions}
        return twin

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run `graph` once."""
        session = self._sessions[graph]
        names = [output.name for output in session.get_outputs()]
        feed = {spec.name: np.ascontiguousarray(inputs[spec.name], _type(spec.type))
                for spec in session.get_inputs()}  # fmt: skip
        found = dict(zip(names, session.run(names, feed), strict=True))
        for tensor in self._taps.get(graph, []):
            self._seen(graph, tensor, feed[tensor] if tensor in feed else found[tensor])
        return found

    def close(self) -> None:
        """Free the sessions."""
        self._sessions.clear()


@dataclass(frozen=True)
class Encoded:
    """What `match` takes of an episode."""

    query: Tensors
    supports: Tensors


def encode(runner: Runner, episode: Episode, size: Grid, policy: Preprocessing) -> Encoded:
    """Features of an episode's query, and its supports encoded.

    Raises:
        InputError: a support's mask is empty.
    """
    shots = list(zip(episode.supports, episode.support_masks, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HSNetWarning)  # small objects are part of a protocol
        supports = encode_shots(runner, episode.class_name, shots, size, policy)
    batch, _ = network_input([episode.query], size, policy)
    return Encoded(run_features(runner, batch), supports)


def logits_of(runner: Runner, encoded: Encoded) -> npt.NDArray[np.float32]:
    """Logits [K,2,h,w] of an episode at the decoder's resolution."""
    logits: npt.NDArray[np.float32] = run_match(runner, encoded.query, encoded.supports)[0]
    return logits


def voted(logits: npt.NDArray[np.float32], episode: Episode, size: Grid) -> Mask:
    """The mask that K shots vote for, bool, shaped as the episode's query_mask."""
    judged = (episode.query_mask.shape[0], episode.query_mask.shape[1])
    # As if the photograph had been resized by the runtime, which the reader has done alike.
    masks, _, _ = segment_logits(logits, [episode.shots], Placement(judged, size, 0, 0, size))
    return masks[0]


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
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _type(name: str) -> Any:
    return {"tensor(float16)": np.float16, "tensor(int64)": np.int64}.get(name, np.float32)
