"""The interface of a backend: the three graphs as a `Runner`, and on a GPU whole frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hsnet_trt.runtime.bundle.manifest import PackedLevel
from hsnet_trt.runtime.matching.graphs import Tensors
from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.pictures.window import Window


@dataclass(frozen=True)
class Limits:
    """The largest batch of one call of each graph."""

    images: int  # N of features
    shots: int  # S of support
    queries: int  # B of match
    supports: int  # S of match


@dataclass(frozen=True)
class FrameAnswer:
    """A frame's result from the GPU: labels uint8 [H,W]; per class a mask bool and scores float32.

    `matches`, float32, holds the best match of each vector of the objects: see `matching.presence`.
    """

    labels: npt.NDArray[np.uint8]
    masks: list[npt.NDArray[np.bool_]]
    scores: list[npt.NDArray[np.float32]]  # in [0,1]; empty if they were not asked for
    timing: dict[str, float]  # milliseconds
    matches: npt.NDArray[np.float32]


class SubmittedFrame(Protocol):
    """A frame on the GPU; call `collect` or `abandon`, once."""

    def collect(self) -> FrameAnswer:
        """Wait for the result. Raises BackendError: CUDA failed, or the logits are not finite."""
        ...

    def abandon(self) -> None:
        """Wait until the GPU is done with the frame, and discard it."""
        ...


class MatchedOnGpu(Protocol):
    """A frame on the GPU whose logits are known; call `draw` or `abandon`, once."""

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """Logits of all shots, float32 [S,2,h,w]."""
        ...

    @property
    def matches(self) -> npt.NDArray[np.float32]:
        """The best match of each vector of the objects, float32: see `matching.presence`."""
        ...

    @property
    def features(self) -> Tensors:
        """`f2`, `f3`, `f4`, each [1,L,C,row], copied from the GPU."""
        ...

    def draw(self, logits: npt.NDArray[np.float32], *, scores: bool) -> FrameAnswer:
        """Draw the masks of these logits, [classes,2,h,w]. Raises BackendError: CUDA failed."""
        ...

    def abandon(self) -> None:
        """Discard the frame."""
        ...


class FrameLane(Protocol):
    """A queue of frames on the GPU, with a fixed number of slots."""

    def submit(
        self, pixels: Pixels, supports: Tensors, shots: Sequence[int], *, scores: bool
    ) -> SubmittedFrame:
        """Send a frame to the GPU; waits only for a free slot.

        Args:
            pixels: uint8 [H,W,3] RGB; BGR views and padded rows cost no more.
            supports: all shots, class after class, as `arranged` returns them, and their `objects`.
                Pass the same dict as long as nothing changed.
            shots: the number of shots of each class.
            scores: whether score maps are wanted.
        """
        ...

    def match(
        self, pixels: Pixels, supports: Tensors, shots: Sequence[int], window: Window | None = None
    ) -> MatchedOnGpu:
        """Compute a frame's logits and wait for them; arguments are those of `submit`.

        With a `window`, only that part is matched; masks are drawn of the whole frame all the same.
        """
        ...

    def close(self) -> None:
        """Free the lane's memory; harmless when repeated."""
        ...


class GpuPipeline(Protocol):
    """A runner that turns pixels into masks wholly on the GPU."""

    @property
    def columns(self) -> bool:
        """See `Runner.columns`."""
        ...

    def open_lane(self, slots: int, sets: int = 1, *, refine: bool = False) -> FrameLane:
        """A lane of `slots` frames; several lanes may share the GPU.

        `sets` is the number of support sets that its frames alternate between, and `refine` whether
        masks are refined (`pictures.guided_filter`).
        """
        ...


class Runner(Protocol):
    """Runs a bundle's graphs; safe to call from several threads."""

    @property
    def backend(self) -> str:
        """tensorrt, tensorrt_rtx, onnxruntime_cuda or onnxruntime."""
        ...

    @property
    def precision(self) -> str:
        """fp32, fp16 or int8."""
        ...

    @property
    def device(self) -> str:
        """The device it runs on, in words."""
        ...

    @property
    def limits(self) -> Limits:
        """The largest batches of one call."""
        ...

    @property
    def packing(self) -> Sequence[PackedLevel]:
        """The windows of levels 2, 3, 4 if `match` takes packed supports; else empty."""
        ...

    @property
    def columns(self) -> bool:
        """Whether `match` takes its supports as columns, for the correlation plugin."""
        ...

    @property
    def contrast(self) -> bool:
        """Whether the network has a background contrast: `c3` and `c4` go with the supports."""
        ...

    @property
    def frames(self) -> GpuPipeline | None:
        """Whole frames on the GPU; None if the CPU resizes photographs and draws masks."""
        ...

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run `graph` once; inputs are cast to its float type, outputs have it."""
        ...

    def close(self) -> None:
        """Free its resources; harmless when repeated."""
        ...
