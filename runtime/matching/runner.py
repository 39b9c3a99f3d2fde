"""What a backend offers: the three graphs as a `Runner`, and on a GPU whole frames, too."""

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
    """How much one call of a graph may be given."""

    images: int  # N of features
    shots: int  # S of support
    queries: int  # B of match
    supports: int  # S of match


@dataclass(frozen=True)
class FrameAnswer:
    """What a GPU says of one frame [H,W]: labels uint8; by class, masks bool and scores float32.

    `matches`, float32 [N], are those of the objects' vectors: see `matching.presence`.
    """

    labels: npt.NDArray[np.uint8]
    masks: list[npt.NDArray[np.bool_]]
    scores: list[npt.NDArray[np.float32]]  # empty if they were not asked for
    timing: dict[str, float]  # milliseconds
    matches: npt.NDArray[np.float32]


class SubmittedFrame(Protocol):
    """A frame on the GPU; it is collected or abandoned, once."""

    def collect(self) -> FrameAnswer:
        """Wait for its answer. Raises BackendError: CUDA failed, or the logits are not finite."""
        ...

    def abandon(self) -> None:
        """Wait until the GPU is done with it, and forget it."""
        ...


class MatchedOnGpu(Protocol):
    """A frame on the GPU whose logits are known; it is drawn or abandoned, once."""

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """Of all shots, [S,2,h,w]."""
        ...

    @property
    def matches(self) -> npt.NDArray[np.float32]:
        """The best match of each object's vector, [N]: see `matching.presence`."""
        ...

    @property
    def features(self) -> Tensors:
        """`f2`, `f3`, `f4`, each [1,L,C,row], brought from the GPU."""
        ...

    def draw(self, logits: npt.NDArray[np.float32], *, scores: bool) -> FrameAnswer:
        """Draw other logits, [classes,2,h,w]. Raises BackendError: CUDA failed."""
        ...

    def abandon(self) -> None:
        """Forget it."""
        ...


class FrameLane(Protocol):
    """Frames that follow each other on the GPU, a fixed number of them at a time."""

    def submit(
        self, pixels: Pixels, supports: Tensors, shots: Sequence[int], *, scores: bool
    ) -> SubmittedFrame:
        """Send a frame to the GPU; waits only for room.

        Args:
            pixels: uint8 [H,W,3] RGB; BGR views and padded rows cost no more.
            supports: of all shots, class after class, as `arranged` gives them; and their
                `objects`; the same dict as long as nothing changed.
            shots: how many shots each class has.
            scores: whether score maps are wanted.
        """
        ...

    def match(
        self, pixels: Pixels, supports: Tensors, shots: Sequence[int], window: Window | None = None
    ) -> MatchedOnGpu:
        """Send a frame as far as its logits, and wait; arguments are those of `submit`.

        Of a `window`, only that part is matched; what is drawn then is the whole frame.
        """
        ...

    def close(self) -> None:
        """Free the lane's memory; harmless when repeated."""
        ...


class GpuPipeline(Protocol):
    """A runner that takes pixels and gives masks, with nothing in between on the CPU."""

    @property
    def columns(self) -> bool:
        """As a `Runner`'s."""
        ...

    def open_lane(self, slots: int, sets: int = 1, *, refine: bool = False) -> FrameLane:
        """A lane for `slots` frames at a time; lanes share the GPU without harm.

        Frames that are matched with several support sets in turns say how many, and whether their
        masks are refined (`pictures.guided_filter`).
        """
        ...


class Runner(Protocol):
    """What runs a bundle's graphs; safe to call from several threads."""

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
        """What it runs on, in words."""
        ...

    @property
    def limits(self) -> Limits:
        """How much one call may be given."""
        ...

    @property
    def packing(self) -> Sequence[PackedLevel]:
        """How `match` takes its supports packed in windows, by level; empty if it does not."""
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
        """Whole frames on the GPU; None where the CPU resizes photographs and draws masks."""
        ...

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run `graph` once; inputs are cast to its float type, outputs have it."""
        ...

    def close(self) -> None:
        """Free what it holds; harmless when repeated."""
        ...
