"""What fraction of the attainable a measured time is, from counted work and measured rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from hsnet_trt.benchmarks.speed_case import Case
from hsnet_trt.benchmarks.work import Work, count
from hsnet_trt.errors import BundleError
from hsnet_trt.runtime.bundle import Bundle


@dataclass(frozen=True)
class Roofline:
    """One row's work and the least time it can take on this machine."""

    flops: int
    needed_bytes: int  # weights, inputs and outputs of the graphs
    moved_bytes: int  # if every node reads from memory and writes to it
    floor_ms: float  # no fusion gets below: the larger of computing and moving what is needed
    unfused_ms: float  # the sum of every node's own floor
    reached: float  # floor_ms / what was measured
    bound: str  # compute | memory: which of the two the floor is


class Counter:
    """The work of a bundle's graphs at one size and precision, counted once for each batch."""

    def __init__(self, bundle: Bundle, size: tuple[int, int], precision: str) -> None:
        self._models = {}
        for graph in ("features", "support", "match"):
            try:
                entry = bundle.graph(graph, size, precision, correlation=_native(graph))
            except BundleError:  # a precision may lack `support`, which has no weights
                entry = bundle.graph(graph, size, correlation=_native(graph))
            self._models[graph] = onnx.load_from_string(bundle.read(entry.file))
        self._counted: dict[tuple[object, ...], Work] = {}

    def work(self, case: Case, workload: str) -> Work:
        """What one call must do: of a stream queries alone, of an episode supports, too."""
        supports = case.shots * case.classes
        work = self._count("features", N=case.batch) + self._count(
            "match", B=case.batch, S=supports
        )
        if workload == "episode":
            work += self._count("features", N=supports) + self._count("support", S=supports)
        return work

    def _count(self, graph: str, **batch: int) -> Work:
        key = (graph, *batch.items())
        if key not in self._counted:
            self._counted[key] = count(self._models[graph], **batch)
        return self._counted[key]


def roofline(
    work: Work, measured_ms: float, rates: Mapping[str, float], precision: str | None = None
) -> Roofline | None:
    """Compare a measured time with the machine's own rates.

    Args:
        work: what had to be done.
        measured_ms: what it took.
        rates: operations per second by precision, and `copy`, bytes per second.
        precision: at whose rate all of it is computed; None for the graph's own.

    Returns:
        None where a rate that is needed was not measured.
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


def _native(graph: str) -> str | None:
    return "native" if graph == "match" else None
