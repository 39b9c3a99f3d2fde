"""What is compared: PyTorch in several ways, and a bundle on every backend that runs here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hsnet_trt.benchmarks.limits.case import Pixels, Supports
from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.device.machine import find_driver
from hsnet_trt.runtime.pictures.preprocess import network_input

Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
BASELINE = "PyTorch eager"


@dataclass(frozen=True)
class Spec:
    """A contender by name, and how to open it; plain, to be sent to a child process."""

    name: str
    precision: str  # fp32 | fp16 | bf16 | int8
    kind: str  # torch | bundle
    caches: bool  # whether supports are encoded once; if not, stream and episode are the same work
    # PyTorch
    backbone: str = ""
    checkpoint: str | None = None  # None: the recipe's weights
    weights: str | None = None  # which of a checkpoint that holds several
    device: str = "cpu"
    compiled: bool = False
    channels_last: bool = False
    # a bundle
    bundle: str = ""
    backend: str = ""


class Contender(Protocol):
    """One opened contender, for one size. Supports are [class][shot]; masks [query,class,H,W]."""

    def register(self, supports: Supports) -> None:
        """Take the support set, and encode it if this contender keeps it encoded."""
        ...

    def segment(self, images: Sequence[Pixels]) -> Masks:
        """From decoded pictures to masks in host memory."""
        ...

    def stream(self, frames: Iterable[Pixels]) -> Iterator[Masks]:
        """The same for frame after frame, as a stream is served."""
        ...

    def scores(self, image: Pixels) -> Floats:
        """Mean foreground softmax over the shots, [class,H,W], to compare contenders by."""
        ...

    def device_bytes(self) -> int | None:
        """The most device memory taken; None where there is no device."""
        ...

    def facts(self) -> dict[str, str]:
        """What runs it, in words."""
        ...


def torch_specs(
    backbone: str, checkpoint: str | None, device: str, weights: str | None = None
) -> list[Spec]:
    """Every way of PyTorch that is compared; the baseline first."""

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
    """A bundle in every precision it has graphs of on ONNX Runtime, on the CPU and on a GPU if
    there is one, and on each TensorRT it has engines for.
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


def open_contender(spec: Spec, size: tuple[int, int]) -> Contender:
    """Open it.

    Raises:
        HSNetError: it cannot run here.
    """
    return TorchContender(spec, size) if spec.kind == "torch" else BundleContender(spec, size)


class BundleContender:
    """A bundle, used as people use it."""

    def __init__(self, spec: Spec, size: tuple[int, int]) -> None:
        from hsnet_trt.runtime.segmenter import FewShotSegmenter

        self._segmenter = FewShotSegmenter.load(
            spec.bundle, spec.backend, size, precision=spec.precision
        )
        self._names: tuple[str, ...] = ()

    def register(self, supports: Supports) -> None:
        names = tuple(f"class {index}" for index in range(len(supports.images)))
        if names != self._names:
            self._segmenter.clear()
        self._names = names
        for name, images, masks in zip(names, supports.images, supports.masks, strict=True):
            self._segmenter.set_support(name, images, masks)

    def segment(self, images: Sequence[Pixels]) -> Masks:
        if len(images) == 1:
            results = [self._segmenter.segment(images[0])]
        else:
            results = self._segmenter.segment_batch(images)
        return np.stack([[r.masks[name] for name in self._names] for r in results])

    def stream(self, frames: Iterable[Pixels]) -> Iterator[Masks]:
        with self._segmenter.stream(frames) as stream:
            for frame in stream:
                if frame.result is None:
                    raise frame.error or BackendError("a frame failed")
                yield np.stack([[frame.result.masks[name] for name in self._names]])

    def scores(self, image: Pixels) -> Floats:
        result = self._segmenter.segment(image)
        return np.stack([result.scores[name] for name in self._names])

    def device_bytes(self) -> int | None:
        return None if self._segmenter.backend == "onnxruntime" else _nvml_bytes()

    def facts(self) -> dict[str, str]:
        return {"backend": self._segmenter.backend, "device": self._segmenter.device}


class TorchContender:
    """HSNet in PyTorch in the authors' order of operations (`authors_order`)."""

    def __init__(self, spec: Spec, size: tuple[int, int]) -> None:
        import torch

        from hsnet_trt.benchmarks.speed.authors_order import AuthorsOrder
        from hsnet_trt.model.checkpoint import load_checkpoint
        from hsnet_trt.model.recipe import recipe_model

        self._spec, self._size, self._torch = spec, size, torch
        # FP32 is FP32: by default cuDNN rounds to TF32. Each contender has a process of its own.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        model = (
            load_checkpoint(spec.checkpoint, weights=spec.weights)
            if spec.checkpoint
            else recipe_model(spec.backbone)
        )
        net = AuthorsOrder(model).eval().to(spec.device)
        if spec.channels_last:
            # PyTorch annotates `to` without it
            net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._net = net
        self._forward: Callable[..., Any] = (
            torch.compile(net, dynamic=False) if spec.compiled else net
        )
        self._supports: list[list[Any]] = []
        self._types = {"fp16": torch.float16, "bf16": torch.bfloat16}

    def register(self, supports: Supports) -> None:
        """[class][shot] of (picture, mask), or where they are cached of encoded layers."""
        self._supports = []
        for images, masks in zip(supports.images, supports.masks, strict=True):
            shots = [
                (
                    self._tensor([image]),
                    self._torch.from_numpy(mask[None]).float().to(self._spec.device),
                )
                for image, mask in zip(images, masks, strict=True)
            ]
            if self._spec.caches:
                with self._mode():
                    self._supports.append([self._net.encode_support(*shot) for shot in shots])
            else:
                self._supports.append(shots)

    def segment(self, images: Sequence[Pixels]) -> Masks:
        from hsnet_trt.benchmarks.speed.authors_order import vote

        with self._mode():
            found = [vote(logits) for logits in self._logits(images)]
            masks: Masks = self._torch.stack(found, dim=1).cpu().numpy()
        return masks

    def stream(self, frames: Iterable[Pixels]) -> Iterator[Masks]:
        for frame in frames:
            yield self.segment([frame])

    def scores(self, image: Pixels) -> Floats:
        with self._mode():
            means = [
                self._torch.stack([shot.float().softmax(1)[0, 1] for shot in logits]).mean(0)
                for logits in self._logits([image])
            ]
            maps: Floats = self._torch.stack(means).cpu().numpy()
        return maps

    def device_bytes(self) -> int | None:
        if self._spec.device == "cpu":
            return None
        return int(self._torch.cuda.max_memory_reserved())

    def facts(self) -> dict[str, str]:
        torch = self._torch
        return {
            "backend": f"torch {torch.__version__}",
            "device": torch.cuda.get_device_name() if self._spec.device != "cpu" else "cpu",
            "threads": str(torch.get_num_threads()),
            "tf32 matmul": str(torch.backends.cuda.matmul.allow_tf32),
            "tf32 cudnn": str(torch.backends.cudnn.allow_tf32),
        }

    def _tensor(self, images: Sequence[Pixels]) -> Any:
        batch = self._torch.from_numpy(network_input(images, self._size, Preprocessing())[0])
        if self._spec.channels_last:
            batch = batch.contiguous(memory_format=self._torch.channels_last)
        return batch.to(self._spec.device)

    def _logits(self, images: Sequence[Pixels]) -> list[list[Any]]:
        """[class][shot] of logits [B,2,H,W]."""
        query, count = self._tensor(images), len(images)
        if self._spec.caches:
            features = self._net.encode(query)
            return [
                [self._net.match(features, _each(shot, count), self._size) for shot in shots]
                for shots in self._supports
            ]
        return [
            [self._forward(query, *_each(shot, count)) for shot in shots]
            for shots in self._supports
        ]

    @contextlib.contextmanager
    def _mode(self) -> Iterator[None]:
        dtype = self._types.get(self._spec.precision)
        device = self._spec.device.partition(":")[0]
        with (
            self._torch.no_grad(),
            self._torch.autocast(device, dtype=dtype, enabled=dtype is not None),
        ):
            yield


def _each(tensors: Iterable[Any], count: int) -> list[Any]:
    """The one support for every query of the batch."""
    return [t.expand(count, *t.shape[1:]) for t in tensors]


def _nvml_bytes() -> int | None:
    """What NVIDIA's management library says this process holds of the first GPU."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.pid == os.getpid():
                return int(process.usedGpuMemory or 0) or None
    except Exception:  # noqa: BLE001  (not installed, not allowed, not a GPU it knows)
        return None
    return None
