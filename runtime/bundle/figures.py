"""What was measured of a bundle's graphs: how exact they are, and what a precision costs."""

from __future__ import annotations

from dataclasses import dataclass

from hsnet_trt.runtime.bundle.fields import Extent, FileName


@dataclass(frozen=True)
class Tolerance:
    """How far logits may differ from PyTorch's float32; NaN is out of tolerance."""

    max_difference: float  # |difference| over the standard deviation of PyTorch's, the largest
    p999_difference: float  # the same, its 99.9th percentile
    flipped: float  # share of the decoder's positions whose class may change, in [0,1]


@dataclass(frozen=True)
class GoldenFile:
    """Inputs and outputs of the PyTorch model, to verify a bundle where no checkpoint is."""

    size: tuple[Extent, Extent]
    file: FileName
    tolerance: dict[str, Tolerance]  # by precision


@dataclass(frozen=True)
class ParityFigure:
    """How far an exported form's logits differed from PyTorch's when it was exported.

    Of a run with so many queries and supports; in float64 only its first pair is compared.
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
    """What a precision came to on episodes, against FP32 on the same ones; mIoU in percent."""

    size: tuple[Extent, Extent]
    precision: str
    arithmetic: str  # what computed it: "onnxruntime" | "emulated" | "tensorrt" | "tensorrt_rtx"
    data: str  # what the episodes are of, in words
    episodes: int
    miou: float
    miou_fp32: float
    changed: float  # share of the judged pixels answered otherwise than in FP32, in [0,1]
