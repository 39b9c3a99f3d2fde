"""The speed targets, and how a run compares with each: reached or missed, by how much, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hsnet_trt.benchmarks.speed.contenders import BASELINE
from hsnet_trt.benchmarks.speed.race import SpeedRow
from hsnet_trt.benchmarks.speed.timing_stats import Ratio, ratio


@dataclass(frozen=True)
class SpeedTarget:
    """A wanted speed-up over `against`, for latency in one case of ResNet-50 at 400 x 400."""

    workload: str
    shots: int
    area: float
    wanted: float
    precision: str = "fp32"
    against: str = BASELINE  # a contender, or "fp32": the same contender in FP32


# On a CPU of 2 cores, against PyTorch in the authors' order of operations.
CPU_TARGETS = (
    SpeedTarget("stream", 1, 0.2, 4),
    SpeedTarget("stream", 5, 0.2, 6),
    SpeedTarget("episode", 1, 0.2, 2.5),
    SpeedTarget("stream", 1, 1.0, 3),
    SpeedTarget("stream", 5, 1.0, 4.5),
    SpeedTarget("episode", 1, 1.0, 2),
    SpeedTarget("stream", 1, 0.2, 1.5, "int8", "fp32"),
    SpeedTarget("stream", 1, 1.0, 1.5, "int8", "fp32"),
)


@dataclass(frozen=True)
class Verdict:
    """Whether a run reached a target."""

    target: SpeedTarget
    contender: str | None
    speedup: Ratio | None
    outcome: str  # reached | missed | too noisy to say | not measured
    why: str = ""  # what limits it, unless it was reached


def judge(rows: Sequence[SpeedRow], ours: str) -> list[Verdict]:
    """The verdict on every CPU target, for the contender of that name (without its precision)."""
    return [_judge(rows, ours, target) for target in CPU_TARGETS]


def _judge(rows: Sequence[SpeedRow], ours: str, target: SpeedTarget) -> Verdict:
    def find(contender: str, precision: str) -> SpeedRow | None:
        for row in rows:
            c = row.case
            if (row.contender, row.precision, row.mode) != (contender, precision, "latency"):
                continue
            if (row.workload, c.shots, c.area) != (target.workload, target.shots, target.area):
                continue
            if (c.classes, c.batch, c.size, c.backbone) == (1, 1, (400, 400), "resnet50"):
                return row
        return None

    row = find(ours, target.precision)
    base = find(ours, "fp32") if target.against == "fp32" else find(target.against, "fp32")
    if row is None or base is None:
        return Verdict(target, None, None, "not measured")
    found = ratio(base.times.rounds, row.times.rounds)
    outcome = found.verdict(target.wanted)
    why = "" if outcome == "reached" else _bound(row, base, target)
    return Verdict(target, f"{ours} {target.precision}", found, outcome, why)


def _bound(row: SpeedRow, base: SpeedRow, target: SpeedTarget) -> str:
    wanted_ms = base.times.median / target.wanted
    text = f"{row.times.median:.0f} ms, where {wanted_ms:.0f} would reach it"
    roof = row.roofline
    if roof is None:
        return text
    return (
        f"{text}; the counted work takes at least {roof.floor_ms:.0f} ms at this machine's own "
        f"rates ({roof.bound}-bound), {roof.unfused_ms:.0f} if nothing is fused: "
        f"{roof.reached:.0%} of the attainable is reached"
    )
