"""Estimate the latency on a GPU from counted work and published rates, without running anything.

A call is modelled as a chain of kernels. Each takes the longer of computing and moving data, at a
share of the published peaks, plus some microseconds for its launch. At the fast end of the band all
element-wise operations are fused into their neighbours; at the slow end none is. Products with few
channels reach a smaller share of the tensor cores' rate, and so do products of matrices whose rows
are not aligned to 16 bytes.

The shares and microseconds were chosen so that the band contains the times of one card, an H100,
with PyTorch and CUDA graphs (`checks`); no TensorRT engine has been timed on any card.
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
# Channels of a convolution that fill the tensor cores; with fewer, they multiply zeros.
_FULL_WIDTH = 64
# cuBLAS on the H100: 2,500 columns reached 0.3 to 0.4 of what 2,504 did (`h100-products.json`).
_UNALIGNED, _ALIGNED_COLUMNS = 0.3, 8
# Operations that an engine computes within a neighbouring kernel.
_FUSED = {
    "Add", "Clip", "Concat", "Div", "Mul", "Reciprocal", "Relu", "Slice", "Sqrt", "Sub",
}  # fmt: skip


@dataclass(frozen=True)
class End:
    """One end of the band.

    Attributes:
        computing: share of the published rate that products reach.
        moving: share of the published bandwidth that copies reach.
        kernel_s: overhead of each kernel, in seconds.
        fused: whether element-wise operations are free.
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
            rate: operations per second.
            bandwidth: bytes per second.
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
    """Seconds of a call: of compute-bound kernels, of memory-bound kernels, and of launches."""

    computing: float
    moving: float
    launching: float

    @property
    def total(self) -> float:
        """The whole call, in seconds."""
        return self.computing + self.moving + self.launching

    @property
    def largest(self) -> str:
        """What takes most of the time: compute | memory | launches."""
        shares = {
            "compute": self.computing, "memory": self.moving, "launches": self.launching
        }  # fmt: skip
        return max(shares, key=shares.__getitem__)


FAST = End(computing=0.5, moving=0.7, kernel_s=4e-6, fused=True)
SLOW = End(computing=0.3, moving=0.4, kernel_s=6e-6, fused=False)


@dataclass(frozen=True)
class Estimate:
    """Milliseconds of a call on a target, expected between `low` and `high`."""

    target: str
    precision: str
    low: float | None  # None: the bandwidth is not published
    high: float | None  # None: the rate is not published; `low` then leaves products out
    bound: str  # compute | memory | launches: most of the fast end

    @property
    def middle(self) -> float | None:
        """The geometric mean of the band."""
        if self.low is None or self.high is None:
            return None
        return math.sqrt(self.low * self.high)


@dataclass(frozen=True)
class Check:
    """A card's measured time, and the band that the model gives for it; milliseconds."""

    card: str
    form: str
    precision: str
    measured: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        """Whether the measured time is in the band."""
        return self.low <= self.measured <= self.high

    @property
    def error(self) -> float:
        """Error of the band's geometric mean, relative to the measured time."""
        return math.sqrt(self.low * self.high) / self.measured - 1


def estimate(work: Work, target: Target, precision: str) -> Estimate:
    """The band of one call.

    Args:
        work: the work of a call, of FP32 graphs or of graphs in that precision.
        target: the machine; unpublished figures are None.
        precision: fp32, tf32, fp16 or int8: of products, and of stored tensors.
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
    """The fastest precision with a published rate that needs no calibration; else fp16."""
    return next((p for p in ("fp16", "tf32", "fp32") if getattr(target, p)), "fp16")


def checks() -> list[Check]:
    """Compare the band with measured times of whole networks with CUDA graphs.

    `benchmarks/results` holds `h100-network.json` (the times) and `h100-network-work.json`: the
    work of each lowering of that network (ResNet-50 at 400 x 400, one shot), from `work.count`.
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
    """Work from rows with the fields of `Step`, and `times`, the number of equal steps."""
    steps: list[Step] = []
    for row in rows:
        fields = {name: value for name, value in row.items() if name != "times"}
        steps += [Step(**fields)] * row["times"]
    return Work(tuple(steps))


def summary(found: Sequence[Check]) -> str:
    """How well the band fits the measured times, as text."""
    errors = [check.error for check in found]
    return (
        f"Held against {found[0].card}, the one card that has run whole networks, in PyTorch with "
        f"CUDA graphs: {sum(c.inside for c in found)} of {len(found)} times are in the band, which "
        f"was set by them; its middle is off by {min(errors):+.0%} to {max(errors):+.0%}. No "
        "engine of TensorRT has been timed on a card."
    )
