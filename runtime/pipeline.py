"""The way of a frame through the network, the same for CPU and GPU: read, start, result.

`FramePipeline.read` may run in another thread than the rest. `cpu_pipeline` and `gpu_pipeline` are
the two that there are.
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
    """A support set as one pipeline matches it.

    Attributes:
        supports: the set; its shots may be views of the arrays below.
        calls: the inputs of `match` besides the query's features, a dict for each of its calls.
        objects: what each shot's object looks like: see `matching.presence`.
    """

    supports: SupportSet
    calls: list[Tensors]
    objects: Objects

    @property
    def nbytes(self) -> int:
        """What the arrays take in memory."""
        return sum(array.nbytes for call in self.calls for array in call.values())


class Pending(Protocol):
    """A frame that was started; ask for its result or abandon it, once."""

    def result(self) -> Segmentation:
        """Wait for the frame. Raises BackendError: the backend failed."""
        ...

    def abandon(self) -> None:
        """Let go of the frame; its result is not wanted any more."""
        ...


class ReadFrame(Protocol):
    """A frame that was decoded."""

    @property
    def pixels(self) -> Pixels:
        """uint8 [H,W,3] RGB."""
        ...

    def start(self, supports: ArrangedSupports, *, scores: bool) -> Pending:
        """Set the frame going; `scores` says whether score maps are wanted."""
        ...


class FramePipeline(Protocol):
    """What frames are sent through."""

    @property
    def slots(self) -> int:
        """How many frames may be under way at once."""
        ...

    def arrange(self, supports: SupportSet) -> ArrangedSupports:
        """The supports as this pipeline matches them; their shots may become views of that."""
        ...

    def with_slots(self, slots: int) -> FramePipeline:
        """The same network with slots of its own, so that other frames do not hold these up."""
        ...

    def segment_all(
        self, images: Sequence[Any], supports: ArrangedSupports, color: str = "rgb"
    ) -> list[Segmentation]:
        """Segment queries, several at once, each read when its turn comes."""
        ...

    def read(self, source: Any, what: str, color: str) -> ReadFrame:
        """Decode a frame, and do what can be done before its turn comes.

        Raises:
            InputError: `source`, named `what` in the error, is no image.
        """
        ...

    def close(self) -> None:
        """Free what only this pipeline holds; harmless when repeated."""
        ...
