"""The contenders: PyTorch in several ways, and a bundle on every backend that runs here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hsnet_trt.benchmarks.limits.case import Pixels, SupportPictures
from hsnet_trt.runtime.device.machine import find_driver

Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
BASELINE = "PyTorch eager"


@dataclass(frozen=True)
class Spec:
    """How to open a contender; plain values, to be sent to a child process."""

    name: str
    precision: str  # fp32 | fp16 | bf16 | int8
    kind: str  # torch | bundle
    caches: bool  # whether supports are encoded once; if not, stream and episode do the same work
    # PyTorch
    backbone: str = ""
    checkpoint: str | None = None  # None: the weights of `recipe_model`
    weights: str | None = None  # which set of a checkpoint that holds several
    device: str = "cpu"
    compiled: bool = False
    channels_last: bool = False
    # a bundle
    bundle: str = ""
    backend: str = ""


class Contender(Protocol):
    """An opened contender for one size. Supports are [class][shot], masks [query,class,H,W]."""

    def register(self, supports: SupportPictures) -> None:
        """Set the supports; a contender that caches encodes them now."""
        ...

    def segment(self, images: Sequence[Pixels]) -> Masks:
        """Decoded pictures -> masks in host memory."""
        ...

    def stream(self, frames: Iterable[Pixels]) -> Iterator[Masks]:
        """The same for one frame after the other, as in a video stream."""
        ...

    def scores(self, image: Pixels) -> Floats:
        """Mean foreground softmax over the shots, [class,H,W], to compare contenders."""
        ...

    def device_bytes(self) -> int | None:
        """Peak device memory; None without a device."""
        ...

    def facts(self) -> dict[str, str]:
        """What runs it, as text."""
        ...


def torch_specs(
    backbone: str, checkpoint: str | None, device: str, weights: str | None = None
) -> list[Spec]:
    """All PyTorch contenders, the baseline first."""

    def spec(name: str, precision: str = "fp32", *, caches: bool = False, **more: Any) -> Spec:
        return Spec(
            name,
            precision,
            "torch",
            caches,
            backbone=backbone,
            checkpoint=checkpoint,
            weights=weights,
            device=device,
            **more,
        )

    return [
        spec(BASELINE),
        spec("PyTorch compile", compiled=True),
        spec("PyTorch channels-last", channels_last=True),
        spec("PyTorch autocast", "bf16"),
        spec("PyTorch autocast", "fp16"),
        spec("PyTorch cached", caches=True),
    ]


def bundle_specs(path: str | os.PathLike[str], name: str = "") -> list[Spec]:
    """A bundle's contenders: every precision of its graphs on ONNX Runtime, and its engines.

    ONNX Runtime runs on the CPU, and on a GPU if there is one.
    """
    from hsnet_trt.runtime.bundle import Bundle

    manifest = Bundle.open(path).manifest
    title = f" {name}" if name else ""
    where = {"onnxruntime": "ONNX Runtime"}
    if find_driver().gpus:
        where["onnxruntime_cuda"] = "ONNX Runtime CUDA"
    on_graphs = tuple(where)
    graphs = dict.fromkeys(
        g.variant.precision for g in manifest.graphs if g.variant.graph == "match"
    )
    engines = dict.fromkeys(
        (e.flavour, e.variant.precision) for e in manifest.engines if e.variant.graph == "match"
    )
    where |= {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
    runs = [(backend, precision) for backend in on_graphs for precision in graphs] + [*engines]
    return [
        Spec(
            f"{where[backend]}{title}",
            precision,
            "bundle",
            True,
            backbone=manifest.model.backbone,
            bundle=os.fspath(path),
            backend=backend,
        )
        for backend, precision in runs
    ]
