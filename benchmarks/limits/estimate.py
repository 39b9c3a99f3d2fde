"""How fast would it be on that GPU? A model, from counted work and published rates; nothing is run.

A call is a chain of kernels. Each takes the longer of computing and moving, at a share of the
published peaks, and some microseconds more for its launch and its ends. At the fast end of the band
everything that works element by element is fused into its neighbours; at the slow end nothing is.
Products of few channels reach a smaller share of the tensor cores, and so do those of matrices
whose rows do not start on 16 bytes.

The shares and the microseconds were set so that the band holds what one card took, an H100, with
PyTorch and CUDA graphs (`checks`); no engine of TensorRT has been timed on any card.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsnet_trt.benchmarks.limits.work import Step, Work
from hsnet_trt.export.engines.targets import TARGETS, Target

RESULTS = Path(__file__).resolve().parents[1] / "results"
_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "int8": 1}
_TENSOR_CORES = ("tf32", "fp16", "int8")
# Of the channels of a convolution; with fewer, tensor cores multiply zeros.
_FULL_WIDTH = 64
# cuBLAS on the H100: 2,500 columns reached 0.3 to 0.4 of what 2,504 did (`h100-products.json`).
_UNALIGNED, _ALIGNED_COLUMNS = 0.3, 8
# What an engine computes within the kernel before or after.
_FUSED = {
    "Add", "Clip", "Concat", "Div", "Mul", "Reciprocal", "Relu", "Slice", "Sqrt", "Sub",
}  # fmt: skip


@dataclass(frozen=True)
class End:
    """One end of the band.

    Attributes:
        computing: share of the published rate that products reach.
        moving: share of the published bandwidth.
        kernel_s: seconds of a kernel beyond that.
        fused: whether element-wise operations cost nothing of their own.
    """

    computing: float
    moving: float
    kernel_s: float
    fused: bool

    def seconds(self, work: Work, precision: str, rate: float, bandwidth: float) -> Parts:
        """The seconds of a call, by what they are spent on.

        Args:
            work: in that precision.
            precision: of the products.
            rate: operations a second.
            bandwidth: bytes a second.
        """
        computing = moving = 0.0
        kernels = 0
        for step in work.steps:
            if self.fused and step.op in _FUSED:
                continue
            kernels += 1
            share = self.computing * _reached(step, precision)
            product = step.flops / (rate * share) if step.flops else 0.0
            copy = (step.read + step.written) / (bandwidth * self.moving)
            if product > copy:
                computing += product
            else:
                moving += copy
        return Parts(computing, moving, kernels * self.kernel_s)


@dataclass(frozen=True)
class Parts:
    """Seconds of a call: of kernels that compute, of those that move, and of their launches."""

    computing: float
    moving: float
    launching: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.computing + self.moving + self.launching

    @property
    def largest(self) -> str:
        """compute | memory | launches."""
        shares = {
            "compute": self.computing, "memory": self.moving, "launches": self.launching
        }  # fmt: skip
        return max(shares, key=shares.__getitem__)


FAST = End(computing=0.5, moving=0.7, kernel_s=4e-6, fused=True)
SLOW = End(computing=0.3, moving=0.4, kernel_s=6e-6, fused=False)


@dataclass(frozen=True)
class Estimate:
    """Milliseconds of a call on a target, probably between `low` and `high`."""

    target: str
    precision: str
    low: float | None  # None: not even the bandwidth is published
    high: float | None  # None: the rate is not published; then `low` counts no products
    bound: str  # compute | memory | launches: most of the fast end

    @property
    def middle(self) -> float | None:
        """The geometric mean of the band."""
        if self.low is None or self.high is None:
            return None
        return math.sqrt(self.low * self.high)


@dataclass(frozen=True)
class Check:
    """What a card took, and the band for it."""

    card: str
    form: str
    precision: str
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
        return Estimate(target.name, precision, None, None, "")
    bandwidth = 1e9 * target.bandwidth
    there = in_precision(work, precision)
    if rate is None:
        low = FAST.seconds(there, precision, math.inf, bandwidth)
        return Estimate(target.name, precision, 1000 * low.total, None, low.largest)
    fast, slow = (end.seconds(there, precision, 1e12 * rate, bandwidth) for end in (FAST, SLOW))
    return Estimate(target.name, precision, 1000 * fast.total, 1000 * slow.total, fast.largest)


def _reached(step: Step, precision: str) -> float:
    """The share of wide and aligned products' rate that this one reaches."""
    if precision not in _TENSOR_CORES:
        return 1.0
    share = min(1.0, step.width / _FULL_WIDTH) if step.width else 1.0
    return share * (_UNALIGNED if step.columns % _ALIGNED_COLUMNS else 1.0)


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


def checks() -> list[Check]:
    """The band against the whole networks that a card has run with CUDA graphs.

    `benchmarks/results` holds `h100-network.json`, and `h100-network-work.json`: what each lowering
    of that network (ResNet-50 at 400 x 400, one shot) has to do, as `work.count` counts it.
    """
    measured = json.loads((RESULTS / "h100-network.json").read_text(encoding="utf-8"))
    counted = json.loads((RESULTS / "h100-network-work.json").read_text(encoding="utf-8"))
    found = []
    for row in measured["rows"]:
        kind, *details = row["form"].split(", ")
        if kind != "ours" or row["precision"] not in _BYTES:
            continue
        band = estimate(read_work(counted[details[0]]), TARGETS["h100"], row["precision"])
        assert band.low is not None and band.high is not None
        found.append(
            Check(
                measured["gpu"], ", ".join(details), row["precision"], row["ms"]["graph"], band.low,
                band.high,
            )
        )  # fmt: skip
    return found


def read_work(rows: Sequence[Mapping[str, Any]]) -> Work:
    """The steps of a work: fields of `Step`, and `times`, how many there are of each."""
    steps: list[Step] = []
    for row in rows:
        fields = {name: value for name, value in row.items() if name != "times"}
        steps += [Step(**fields)] * row["times"]
    return Work(tuple(steps))


def summary(found: Sequence[Check]) -> str:
    """How well the band fits what was measured, in words."""
    errors = [check.error for check in found]
    return (
        f"Held against {found[0].card}, the one card that has run whole networks, in PyTorch with "
        f"CUDA graphs: {sum(c.inside for c in found)} of {len(found)} times are in the band, which "
        f"was set by them; its middle is off by {min(errors):+.0%} to {max(errors):+.0%}. No "
        "engine of TensorRT has been timed on a card."
    )
