"""A bundle's network without supports, shared by the segmenter, the web page and evaluation."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from hsnet_trt.runtime.backends import open_runner
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.cpu_pipeline import CpuFramePipeline
from hsnet_trt.runtime.gpu_pipeline import GpuFramePipeline
from hsnet_trt.runtime.lowering_choice import AUTO, open_fastest
from hsnet_trt.runtime.matching.encode import encode_parts, pair_up
from hsnet_trt.runtime.matching.packing import Shot, compress
from hsnet_trt.runtime.matching.runner import Runner
from hsnet_trt.runtime.matching.support_set import Origin, SupportSet
from hsnet_trt.runtime.ort.cuda import CudaChoice
from hsnet_trt.runtime.pictures.masks import MaskSource
from hsnet_trt.runtime.pictures.sources import ImageSource
from hsnet_trt.runtime.pipeline import FramePipeline
from hsnet_trt.runtime.video.follower import Follower
from hsnet_trt.runtime.video.following import FollowingPipeline
from hsnet_trt.trt_plugins.sizes import row_length

_LEAST_CALLS, _SECONDS = 5, 1.0  # a timing's fewest calls, and its shortest duration


class Network:
    """Encodes shots and segments frames. Safe to use from several threads.

    Attributes:
        bundle: the opened bundle.
        runner: runs its graphs.
        size: height and width of its input, in pixels.
        reason: in words, why this backend was chosen.
        preprocessing: normalisation and resize policy.
        pipeline: the frame pipeline.
        origin: the origin that support sets must have.
        lowering: of `match`, if one was requested or chosen by timing.
        asked_lowering: the requested one, possibly "auto".
        gpu_memory: bytes that ONNX Runtime may use of a GPU; None for all.
        refine: whether the masks' edges are refined: see `pictures.guided_filter`.
    """

    lowering: str | None = None
    asked_lowering: str | None = None
    gpu_memory: int | None = None

    def __init__(
        self,
        bundle: Bundle,
        runner: Runner,
        size: tuple[int, int],
        reason: str,
        refine: bool | None = None,
    ) -> None:
        """Use `Network.load`."""
        self.bundle, self.runner, self.size, self.reason = bundle, runner, size, reason
        self.preprocessing = bundle.manifest.preprocessing
        self.origin = Origin.of(bundle.manifest, size)
        self.refine = bundle.manifest.refine if refine is None else refine
        present_from, policy = bundle.manifest.present_from, self.preprocessing.resize
        self.pipeline: FramePipeline = (
            CpuFramePipeline(runner, size, self.preprocessing, present_from, refine=self.refine)
            if runner.frames is None
            else GpuFramePipeline(runner.frames, size, policy, present_from, refine=self.refine)
        )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        backend: str = "auto",
        size: int | tuple[int, int] | None = None,
        sha256: str | None = None,
        precision: str | None = None,
        lowering: str | None = None,
        gpu_memory: int | None = None,
        refine: bool | None = None,
    ) -> Network:
        """Open a bundle; arguments and errors are those of `FewShotSegmenter.load`."""
        bundle = Bundle.open(path, sha256=sha256)
        chosen, cuda, asked = bundle.size(size), CudaChoice(gpu_memory), lowering
        if lowering == AUTO:

            def frame_ms(runner: Runner) -> float:
                return cls(bundle, runner, chosen, "").frame_ms()

            opened = open_fastest(bundle, chosen, backend, precision, frame_ms, cuda)
            runner, reason, lowering = opened.runner, opened.reason, opened.lowering
        else:
            runner, reason = open_runner(bundle, chosen, backend, precision, lowering, cuda)
        network = cls(bundle, runner, chosen, reason, refine)
        network.lowering, network.asked_lowering = lowering, asked
        network.gpu_memory = gpu_memory
        return network

    @property
    def choices(self) -> dict[str, Any]:
        """Arguments of `load`, besides the path, that open the same network again."""
        return {
            "backend": self.runner.backend,
            "size": self.size,
            "sha256": self.bundle.sha256,
            "precision": self.runner.precision,
            "lowering": self.asked_lowering,
            "gpu_memory": self.gpu_memory,
            "refine": self.refine,
        }

    @property
    def shot_bytes(self) -> int:
        """Bytes of an arranged shot at most, which is when its mask covers the whole picture.

        Counts its columns with their positions and count, and its contrast direction.
        """
        shapes = self.origin.shapes
        numbers = [
            (layers * channels + 1) * row_length(positions) + 1
            for layers, channels, positions in shapes
        ]
        return 4 * (sum(numbers) + shapes[2][1])

    def encode(
        self,
        name: str,
        images: ImageSource | Iterable[ImageSource],
        masks: MaskSource | Iterable[MaskSource],
        color: str = "rgb",
        crop: float | None = None,
    ) -> list[Shot]:
        """Encode the shots of a class; `name` names it in errors and warnings.

        Arguments, errors and warnings are those of `FewShotSegmenter.set_support`.
        """
        shots: list[Shot] = []
        pairs = pair_up(name, images, masks)
        parts = encode_parts(self.runner, name, pairs, self.size, self.preprocessing, color, crop)
        for part in parts:
            shots += compress(part)
        return shots

    def follow(self, follower: Follower) -> FramePipeline:
        """The frame pipeline of one video stream, with the state in `follower`."""
        present_from, refine = self.bundle.manifest.present_from, self.refine
        inner: CpuFramePipeline | GpuFramePipeline
        if self.runner.frames is None:
            inner = CpuFramePipeline(
                self.runner, self.size, self.preprocessing, present_from, refine=refine
            )
        else:
            policy, sets = self.preprocessing.resize, follower.sets
            inner = GpuFramePipeline(
                self.runner.frames, self.size, policy, present_from, 1, sets, refine=refine
            )
        return FollowingPipeline(inner, self.runner, follower, present_from)

    def frame_ms(self) -> float:
        """Milliseconds per frame with one support, the median of several, on a frame of noise.

        The support's mask covers a fifth of the picture, since the time of some lowerings depends
        on it.
        """
        height, width = self.size
        picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), bool)
        mask[height // 4 : height - height // 4, width // 4 : width - 7 * width // 20] = True
        shots = self.encode("timed", picture, mask)
        supports = self.pipeline.arrange(SupportSet().with_class("timed", shots))
        times: list[float] = []
        begin = time.perf_counter()
        while len(times) < 3 + _LEAST_CALLS or time.perf_counter() - begin < _SECONDS:
            start = time.perf_counter()
            self.pipeline.read(picture, "a picture", "rgb").start(supports, scores=False).result()
            times.append(1000 * (time.perf_counter() - start))
        self.pipeline.close()
        return float(np.median(times[3:]))

    def close(self) -> None:
        """Free the network; nothing may be using it."""
        self.runner.close()
