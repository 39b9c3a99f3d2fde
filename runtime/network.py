"""A bundle's network without supports of its own: what segmenter, page and judge share."""

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

_LEAST_CALLS, _SECONDS = 5, 1.0  # of a timing


class Network:
    """Encodes shots and carries frames. Safe to use from several threads.

    Attributes:
        bundle: where it comes from.
        runner: what runs its graphs.
        size: height and width of its input, in pixels.
        reason: in words, why it is that backend.
        pipeline: the way of a frame through it.
        origin: what a support set must come from to be matched by it.
        lowering: of `match`, if one was asked for or chosen by time.
        asked_lowering: the one that was asked for, maybe "auto".
        gpu_memory: bytes that ONNX Runtime may take of a GPU; None for all.
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
        """Arguments of `load` that open the same bundle again, on the same kind of backend."""
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
        """What an arranged shot takes at most: one whose mask covers the whole picture.

        Its columns with their positions and count, and the direction of its object.
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
        """Encode the shots of a class, which `name` stands for in errors and warnings.

        Arguments, errors and warnings are those of `FewShotSegmenter.set_support`.
        """
        shots: list[Shot] = []
        pairs = pair_up(name, images, masks)
        parts = encode_parts(self.runner, name, pairs, self.size, self.preprocessing, color, crop)
        for part in parts:
            shots += compress(part)
        return shots

    def follow(self, follower: Follower) -> FramePipeline:
        """The way of one stream's frames, each of which is answered by what others left, too."""
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
        """Milliseconds of a frame of noise, its support registered: the median of several.

        The support's mask covers a fifth of it: some lowerings compute only what is under masks.
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
        """Free the network; nothing may still use it."""
        self.runner.close()
