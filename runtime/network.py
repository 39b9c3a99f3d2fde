"""A bundle's network without supports of its own: what segmenter, page and judge share."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np

from hsnet_trt.runtime.backends import open_runner
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.cpu_pipeline import CpuFramePipeline
from hsnet_trt.runtime.following import FollowingPipeline
from hsnet_trt.runtime.gpu_pipeline import GpuFramePipeline
from hsnet_trt.runtime.matching.encode import encode_parts, pair_up
from hsnet_trt.runtime.matching.graphs import Runner
from hsnet_trt.runtime.matching.packing import Shot, compress
from hsnet_trt.runtime.matching.support_set import Origin
from hsnet_trt.runtime.pictures.masks import MaskSource
from hsnet_trt.runtime.pictures.sources import ImageSource
from hsnet_trt.runtime.pipeline import FramePipeline
from hsnet_trt.runtime.video.follower import Follower


class Network:
    """Encodes shots and carries frames. Safe to use from several threads.

    Attributes:
        bundle: where it comes from.
        runner: what runs its graphs.
        size: height and width of its input, in pixels.
        reason: in words, why it is that backend.
        pipeline: the way of a frame through it.
        origin: what a support set must come from to be matched by it.
    """

    def __init__(self, bundle: Bundle, runner: Runner, size: tuple[int, int], reason: str) -> None:
        """Use `Network.load`."""
        self.bundle, self.runner, self.size, self.reason = bundle, runner, size, reason
        self.preprocessing = bundle.manifest.preprocessing
        self.origin = Origin.of(bundle.manifest, size)
        self.pipeline: FramePipeline = (
            CpuFramePipeline(runner, size, self.preprocessing)
            if runner.frames is None
            else GpuFramePipeline(runner.frames, size, self.preprocessing.resize)
        )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        backend: str = "auto",
        size: int | tuple[int, int] | None = None,
        sha256: str | None = None,
        precision: str | None = None,
    ) -> Network:
        """Open a bundle; arguments and errors are those of `FewShotSegmenter.load`."""
        bundle = Bundle.open(path, sha256=sha256)
        chosen = bundle.size(size)
        runner, reason = open_runner(bundle, chosen, backend, precision)
        return cls(bundle, runner, chosen, reason)

    @property
    def shot_bytes(self) -> int:
        """What an encoded shot takes at most: one whose mask covers the whole picture."""
        return 4 * sum(int(np.prod(shape)) for shape in self.origin.shapes)

    def encode(
        self,
        name: str,
        images: ImageSource | Iterable[ImageSource],
        masks: MaskSource | Iterable[MaskSource],
        color: str = "rgb",
    ) -> list[Shot]:
        """Encode the shots of a class, which `name` stands for in errors and warnings.

        Arguments, errors and warnings are those of `FewShotSegmenter.set_support`.
        """
        shots: list[Shot] = []
        pairs = pair_up(name, images, masks)
        parts = encode_parts(self.runner, name, pairs, self.size, self.preprocessing, color)
        for part in parts:
            shots += compress(part)
        return shots

    def follow(self, follower: Follower) -> FramePipeline:
        """The way of one stream's frames, each of which is answered by what others left, too."""
        inner: CpuFramePipeline | GpuFramePipeline
        if self.runner.frames is None:
            inner = CpuFramePipeline(self.runner, self.size, self.preprocessing)
        else:
            resize = self.preprocessing.resize
            inner = GpuFramePipeline(self.runner.frames, self.size, resize, 1, follower.sets)
        return FollowingPipeline(inner, self.runner, follower)

    def close(self) -> None:
        """Free the network; nothing may still use it."""
        self.runner.close()
