"""The share of the attainable speed that a measured time reaches, from work and measured rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx.utils
import onnxruntime

from hsnet_trt.benchmarks.limits.case import Case, draw_inputs
from hsnet_trt.benchmarks.limits.work import Work, count
from hsnet_trt.export.graphs.probe import resize_mask
from hsnet_trt.runtime.backends import choose_graphs
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.matching.packing import index_windows


@dataclass(frozen=True)
class Roofline:
    """The work of one row, and the least time it can take on this machine.

    Attributes:
        flops: operations of convolutions and matrix products.
        needed_bytes: weights, inputs and outputs of the graphs.
        moved_bytes: if every node reads its inputs from memory and writes its outputs to it.
        floor_ms: limit even with perfect fusion: the larger of computing and moving needed_bytes.
        unfused_ms: the sum of every node's own floor.
        reached: floor_ms / measured time.
        bound: compute | memory: which of the two gives floor_ms.
    """

    flops: int
    needed_bytes: int
    moved_bytes: int
    floor_ms: float
    unfused_ms: float
    reached: float
    bound: str


class Counter:
    """Counts the work of a bundle's graphs at one size and precision, once for each batch."""

    def __init__(
        self, bundle: Bundle, size: tuple[int, int], precision: str, *, packed: bool
    ) -> None:
        """Open the graphs.

        `packed`: count the packed `match` if the bundle has it, as CPUs run it: it multiplies only
        positions under the masks. Engines are built from the others.

        Raises:
            BundleError: the bundle does not hold that precision at that size.
        """
        graphs = choose_graphs(bundle, size, precision, packed=packed)
        self._size, self._packing = size, graphs["match"].packing
        self._models = {
            name: onnx.load_from_string(bundle.read(graph.file)) for name, graph in graphs.items()
        }
        self._counted: dict[tuple[object, ...], Work] = {}
        self._packed: dict[Case, Work] = {}

    def work(self, case: Case, workload: str) -> Work:
        """The work of one call: of the queries ("stream"), or of supports too ("episode")."""
        supports = case.shots * case.classes
        work = self._count("features", N=case.batch) + self._match(case)
        if workload == "episode":
            work += self._count("features", N=supports) + self._count("support", S=supports)
        return work

    def _match(self, case: Case) -> Work:
        batch = {"B": case.batch, "S": case.shots * case.classes}
        if not self._packing:
            return self._count("match", **batch)
        if case not in self._packed:
            self._packed[case] = self._count_packed(case, batch)
        return self._packed[case]

    def _count_packed(self, case: Case, batch: dict[str, int]) -> Work:
        """The work with the columns and windows of the case's first support set."""
        shown = draw_inputs(case, [level.grid for level in self._packing]).supports[0].masks
        masks = [mask for shots in shown for mask in shots]
        places = {}
        for number, level in enumerate(self._packing, 2):
            kept = [np.flatnonzero(resize_mask(mask, level.grid)) for mask in masks]
            windows, places[f"p{number}"] = index_windows(kept, level)
            batch[f"R{number}"] = sum(map(len, kept)) + 1
            batch[f"T{number}"] = len(windows)
        model = self._models["match"]
        return count(with_unique_shapes(model, places), **batch)

    def _count(self, graph: str, **batch: int) -> Work:
        key = (graph, *batch.items())
        if key not in self._counted:
            self._counted[key] = count(self._models[graph], **batch)
        return self._counted[key]


def with_unique_shapes(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The graph with fixed shapes for the outputs of `Unique`, which depend on values.

    `inputs`: values of the graph's inputs that those outputs depend on.
    """
    names = [name for node in model.graph.node if node.op_type == "Unique" for name in node.output]
    if not names:
        return model
    named = onnx.ModelProto()
    named.CopyFrom(model)
    named.graph.value_info.extend(_integers(name, None) for name in names)
    small = onnx.utils.Extractor(named).extract_model([*inputs], names)
    session = onnxruntime.InferenceSession(
        small.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = session.run(names, dict(inputs))
    shaped = onnx.ModelProto()
    shaped.CopyFrom(model)
    shaped.graph.value_info.extend(
        _integers(name, array.shape) for name, array in zip(names, found, strict=True)
    )
    return shaped


def _integers(name: str, shape: Sequence[int] | None) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, shape)


def roofline(
    work: Work, measured_ms: float, rates: Mapping[str, float], precision: str | None = None
) -> Roofline | None:
    """Compare a measured time with the machine's own rates.

    Args:
        work: the work that was done.
        measured_ms: the time it took.
        rates: operations per second by precision, and `copy`, bytes per second.
        precision: whose rate applies to all products; None for the graph's own.

    Returns:
        the roofline; None if a needed rate was not measured.
    """
    kinds = work.flops_by_precision()
    known = {kind: rates.get(precision or kind, 0.0) for kind in kinds}
    if not all(known.values()) or not rates.get("copy"):
        return None
    bandwidth = rates["copy"]
    computing = sum(n / known[kind] for kind, n in kinds.items())
    floor = work.floor_s(known, bandwidth)
    return Roofline(
        flops=work.flops,
        needed_bytes=work.needed_bytes,
        moved_bytes=work.moved_bytes,
        floor_ms=1000 * floor,
        unfused_ms=1000 * work.unfused_s(known, bandwidth),
        reached=1000 * floor / measured_ms,
        bound="compute" if computing >= floor else "memory",
    )
