"""How fast would it be there? A model, from counted work and published rates; not a measurement.

The band reaches from the roofline, which nothing gets below, to a network of which nothing is fused
and every node runs at half of its own roofline. How the same band fits machines that were really
measured is printed beside it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsnet_trt.benchmarks.limits.case import Case
from hsnet_trt.benchmarks.limits.work import Work
from hsnet_trt.export.engines.targets import Target

RESULTS = Path(__file__).resolve().parents[1] / "results"  # records of `hsnet-trt benchmark`
WORST = 0.5  # of every node's own roofline, at the slow end of the band
LAUNCH_S = 3e-6  # of a kernel on a GPU, at the slow end: one for each node
_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "int8": 1}


@dataclass(frozen=True)
class Estimate:
    """Milliseconds of a call on a target: at least `low`, and probably at most `high`."""

    target: str
    precision: str
    low: float | None  # None: not even the bandwidth is published
    high: float | None  # None: the rate is not published, so only `low` is known
    bound: str  # compute | memory: what the fast end is
    published: bool  # whether the rate at that precision is

    @property
    def middle(self) -> float | None:
        """The geometric mean of the band."""
        if self.low is None or self.high is None:
            return None
        return math.sqrt(self.low * self.high)


@dataclass(frozen=True)
class Check:
    """A machine that was measured, and the model's band from that machine's own rates."""

    machine: str
    contender: str
    case: str
    workload: str
    measured: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        """Whether the band holds what was measured."""
        return self.low <= self.measured <= self.high

    @property
    def error(self) -> float:
        """How far the middle of the band is off, as a share of what was measured."""
        return math.sqrt(self.low * self.high) / self.measured - 1


def estimate(work: Work, target: Target, precision: str) -> Estimate:
    """The band of one call.

    Args:
        work: what a call must do, as the FP32 graphs have it, or those of that precision.
        target: the machine; figures that are not published are None.
        precision: fp32, tf32, fp16 or int8: what products are computed in, and tensors stored.
    """
    rate = getattr(target, precision)
    if target.bandwidth is None:
        return Estimate(target.name, precision, None, None, "", False)
    bandwidth = 1e9 * target.bandwidth
    there = in_precision(work, precision)
    if rate is None:
        low = 1000 * there.needed_bytes / bandwidth
        return Estimate(target.name, precision, low, None, "memory", False)
    rates = {precision: 1e12 * rate}
    low = 1000 * there.floor_s(rates, bandwidth)
    high = 1000 * (there.unfused_s(rates, bandwidth) / WORST + LAUNCH_S * len(there.steps))
    bound = "compute" if there.flops / rates[precision] * 1000 >= low else "memory"
    return Estimate(target.name, precision, low, high, bound, True)


def in_precision(work: Work, precision: str) -> Work:
    """The same work with products and tensors in that precision, whatever the graph's own is."""
    width = _BYTES[precision]
    own = {"fp16": 2, "bf16": 2, "int8": 1}
    kinds = set(work.flops_by_precision())
    shrink = width / max((own.get(kind, 4) for kind in kinds), default=4)
    return Work(
        tuple(
            dataclasses.replace(
                step,
                read=int(step.read * shrink),
                written=int(step.written * shrink),
                precision=precision if step.flops else "",
            )
            for step in work.steps
        ),
        int(work.needed_bytes * shrink),
    )


def best_precision(target: Target) -> str:
    """The fastest that needs no calibration, of those whose rate is published; else fp16."""
    return next((p for p in ("fp16", "tf32", "fp32") if getattr(target, p)), "fp16")


def checks(records: Iterable[Mapping[str, Any]]) -> list[Check]:
    """The model against every latency of ours that was measured anywhere.

    `records`: as `hsnet-trt benchmark` writes them.
    """
    found = []
    for record in records:
        machine = record["machine"]
        name = (
            machine["gpus"][0] if machine["gpus"] else f"{machine['cpu']}, {machine['cores']} cores"
        )
        for row in record["rows"]:
            roof = row["roofline"]
            if row["mode"] != "latency" or roof is None or row["contender"].startswith("PyTorch"):
                continue
            case = dict(row["case"], size=tuple(row["case"]["size"]))
            found.append(
                Check(
                    name,
                    f"{row['contender']} {row['precision']}",
                    str(Case(**case)),
                    row["workload"],
                    row["times"]["median"],
                    roof["floor_ms"],
                    roof["unfused_ms"] / WORST,
                )
            )
    return found


def summary(found: Sequence[Check]) -> str:
    """How well the model fits what was measured, in words."""
    if not found:
        return (
            "No machine has been measured yet that the model could be held against "
            "(hsnet-trt benchmark)."
        )
    lines = []
    for machine in dict.fromkeys(check.machine for check in found):
        mine = [check for check in found if check.machine == machine]
        errors = [check.error for check in mine]
        lines.append(
            f"Held against {machine}, with its own measured rates: {sum(c.inside for c in mine)} "
            f"of {len(mine)} latencies are in the band; its middle is off by {min(errors):+.0%} "
            f"to {max(errors):+.0%}."
        )
    return "\n".join(lines)


def read_records(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Every record of `hsnet-trt benchmark` in a folder; what `gpu-check` wrote is passed over."""
    found = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and {"machine", "rows", "rates"} <= content.keys():
            found.append(content)
    return found
