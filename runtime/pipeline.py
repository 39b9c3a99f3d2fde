"""The interface of frame pipelines: read, start, result.

`FramePipeline.read` may run in another thread than the rest. `cpu_pipeline` and `gpu_pipeline`
implement it, and `video.following` for the frames of a video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hsnet_trt.runtime.matching.graphs import Tensors
from hsnet_trt.runtime.matching.presence import Objects
from hsnet_trt.runtime.matching.support_set import SupportSet
from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.pictures.result import Segmentation


@dataclass(frozen=True)
class ArrangedSupports:
    """A support set, arranged for one pipeline.

    Attributes:
        supports: the set; its shots may be views of the arrays in `calls`.
        calls: the inputs of `match` besides the query's features, one dict per call.
        objects: the vectors of each shot's object: see `matching.presence`.
    """

    supports: SupportSet
    calls: list[Tensors]
    objects: Objects

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays in `calls`."""
        return sum(array.nbytes for call in self.calls for array in call.values())


class Pending(Protocol):
    """A frame that was started; call `result` or `abandon`, once."""

    def result(self) -> Segmentation:
        """Wait for the frame. Raises BackendError: the backend failed."""
        ...

    def abandon(self) -> None:
        """Release the frame without its result."""
        ...


class ReadFrame(Protocol):
    """A decoded frame."""

    @property
    def pixels(self) -> Pixels:
        """uint8 [H,W,3] RGB."""
        ...

    def start(self, supports: ArrangedSupports, *, scores: bool) -> Pending:
        """Start the frame; `scores` says whether score maps are wanted."""
        ...


class FramePipeline(Protocol):
    """Segments frames against arranged supports."""

    @property
    def slots(self) -> int:
        """How many frames may be in flight at once."""
        ...

    def arrange(self, supports: SupportSet) -> ArrangedSupports:
        """Prepare supports for matching; their shots may become views of the result."""
        ...

    def with_slots(self, slots: int) -> FramePipeline:
        """The same network with its own slots, so that other frames do not delay these."""
        ...

    def segment_all(
        self, images: Sequence[Any], supports: ArrangedSupports, color: str = "rgb"
    ) -> list[Segmentation]:
        """Segment queries, several at once where possible, and read each only when needed."""
        ...

    def read(self, source: Any, what: str, color: str) -> ReadFrame:
        """Decode a frame, and do what does not depend on other frames.

        Raises:
            InputError: `source`, named `what` in the error, is no image.
        """
        ...

    def close(self) -> None:
        """Free the resources that only this pipeline uses; harmless when repeated."""
        ...
