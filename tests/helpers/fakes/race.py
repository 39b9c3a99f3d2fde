"""A race of contenders that answer at once what their plan says."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from hsnet_trt.benchmarks.limits.case import Case
from hsnet_trt.benchmarks.limits.machine_facts import machine_facts
from hsnet_trt.benchmarks.speed.contenders import BASELINE, Spec
from hsnet_trt.benchmarks.speed.race import Effort, Outcome, SpeedRow, race
from hsnet_trt.benchmarks.speed.record import Record
from hsnet_trt.errors import BackendError
from hsnet_trt.model.hsnet import HSNet

RATES = {"fp32": 200e9, "bf16": 400e9, "int8": 800e9, "copy": 20e9}
CASE = Case("resnet50", (400, 400))
EAGER = Spec(BASELINE, "fp32", "torch", caches=False)
OURS = Spec("ONNX Runtime", "fp32", "bundle", caches=True)


class FakeWorker:
    """Answers at once what its plan says: the milliseconds of an episode and of a query."""

    plans: ClassVar[dict[str, dict[str, Any]]] = {}
    order: ClassVar[list[tuple[str, str]]] = []
    closed: ClassVar[list[str]] = []

    def __init__(self, spec: Spec, size: tuple[int, int]) -> None:
        self.spec = spec

    def call(self, method: str, *arguments: Any) -> Any:
        plan = self.plans[self.spec.name]
        if method == plan.get("breaks"):
            raise BackendError("it ended", found="exit code -11")
        if method == "prepare":
            return plan["episode"] / 1000
        if method == "answer":
            scores = np.full((1, 4, 4), 0.5) + plan.get("off", 0.0)
            return scores, scores > 0.5
        if method == "latency":
            self.order.append((self.spec.name, arguments[0]))
            return [float(plan[arguments[0]])] * 3
        if method == "throughput":
            return {"intervals": [float(plan["stream"])] * 3, "frames": 4}
        return {"memory": {"host_bytes": 10**9, "device_bytes": None}, "facts": {"on": "air"}}[
            method
        ]

    def close(self) -> None:
        self.closed.append(self.spec.name)


def run(*specs: Spec, case: Case = CASE, rounds: int = 8) -> Outcome:
    grids = HSNet("resnet18").grids(case.size)
    return race(specs, [case], grids, Effort(rounds=rounds))


def find(outcome: Outcome, contender: str, workload: str, mode: str = "latency") -> SpeedRow:
    (row,) = (
        r for r in outcome.rows if (r.contender, r.workload, r.mode) == (contender, workload, mode)
    )
    return row


def record(outcome: Outcome, **more: Any) -> Record:
    return Record(
        "hsnet-trt benchmark",
        machine_facts(),
        Effort(),
        rates=RATES,
        rows=outcome.rows,
        refused=outcome.refused,
        wrong=outcome.wrong,
        facts=outcome.facts,
        **{"finished": True, **more},
    )
