"""Measured figures of a bundle's graphs: numerical differences, and accuracy by precision."""

from __future__ import annotations

from dataclasses import dataclass

from hsnet_trt.runtime.bundle.fields import Extent, FileName


@dataclass(frozen=True)
class Tolerance:
    """Bounds on the difference of logits from PyTorch's float32; NaN is out of tolerance."""

    max_difference: float  # largest |difference| over the standard deviation of PyTorch's logits
    p999_difference: float  # 99.9th percentile of |difference| over the same
    flipped: float  # share of the decoder's positions whose class may change, in [0,1]


@dataclass(frozen=True)
class GoldenFile:
    """Inputs and outputs of the PyTorch model, to verify a bundle without the checkpoint."""

    size: tuple[Extent, Extent]
    file: FileName
    tolerance: dict[str, Tolerance]  # by precision


@dataclass(frozen=True)
class ParityFigure:
    """The difference of an exported form's logits from PyTorch's at export.

    Measured with `queries` x `supports`; against float64, only on the first pair.
    """

    size: tuple[Extent, Extent]
    precision: str
    lowering: str
    correlation: str
    against: str  # "torch-float32" | "torch-float64"
    arithmetic: str  # "onnxruntime" | "emulated"
    queries: int
    supports: int
    max_difference: float  # of logits, in their own unit
    p999_difference: float  # 99.9th percentile of |difference|
    flipped: float  # share of the decoder's positions that change class, in [0,1]
    logits_std: float


@dataclass(frozen=True)
class AccuracyFigure:
    """The mIoU of a precision on episodes, in percent, against FP32 on the same episodes."""

    size: tuple[Extent, Extent]
    precision: str
    arithmetic: str  # what computed it: "onnxruntime" | "emulated" | "tensorrt" | "tensorrt_rtx"
    data: str  # the data set of the episodes, in words
    episodes: int
    miou: float
    miou_fp32: float
    changed: float  # share of the evaluated pixels whose class differs from FP32, in [0,1]
    lowering: str = ""  # of `match`; empty in older bundles
