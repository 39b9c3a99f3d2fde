"""A bundle as a contender, used as in an application."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from hsnet_trt.benchmarks.limits.case import Pixels, SupportPictures
from hsnet_trt.benchmarks.speed.contenders import Floats, Masks, Spec
from hsnet_trt.errors import BackendError


class BundleContender:
    """A bundle through `FewShotSegmenter`, as an application uses it."""

    def __init__(self, spec: Spec, size: tuple[int, int]) -> None:
        from hsnet_trt.runtime.segmenter import FewShotSegmenter

        self._segmenter = FewShotSegmenter.load(
            spec.bundle, spec.backend, size, precision=spec.precision
        )
        self._names: tuple[str, ...] = ()

    def register(self, supports: SupportPictures) -> None:
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

    def network_ms(self, image: Pixels) -> float:
        """Milliseconds of `features` and `match` for one query."""
        timing = self._segmenter.segment(image).timing
        return timing["features"] + timing["match"]

    def device_bytes(self) -> int | None:
        return None if self._segmenter.backend == "onnxruntime" else _nvml_bytes()

    def facts(self) -> dict[str, str]:
        return {"backend": self._segmenter.backend, "device": self._segmenter.device}


def _nvml_bytes() -> int | None:
    """Memory of the first GPU that this process holds, according to NVML; None if unknown."""
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
