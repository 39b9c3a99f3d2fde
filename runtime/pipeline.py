"""Two ways of a frame through the network, with one face: prepared and drawn by CPU, or by GPU.

`read` may run in another thread than the rest; `start` sets a frame going, `finish` waits for it.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.matching.graphs import Runner, match_calls, run_features, run_match
from hsnet_trt.runtime.matching.support_set import SupportSet
from hsnet_trt.runtime.pictures.images import Pixels, view_image
from hsnet_trt.runtime.pictures.postprocess import segment_logits
from hsnet_trt.runtime.pictures.preprocess import network_input
from hsnet_trt.runtime.pictures.result import Segmentation

if TYPE_CHECKING:
    from hsnet_trt.runtime.engines.frame_lane import FrameAnswer
    from hsnet_trt.runtime.engines.frame_pipeline import GpuFrames


_QUERY = "the query image"


class Path(Protocol):
    """What a stream sends its frames through."""

    @property
    def slots(self) -> int:
        """How many frames may be under way."""
        ...

    def arrange(self, supports: SupportSet) -> Any:
        """The supports as `start` takes them; the set may come to share their memory."""
        ...

    def another(self, slots: int) -> Path:
        """The same for frames that nobody else's may hold up."""
        ...

    def segment_all(
        self, images: Sequence[Any], supports: SupportSet, arranged: Any, color: str = "rgb"
    ) -> list[Segmentation]:
        """Segment queries, several at once, each read when its turn comes."""
        ...

    def read(self, source: Any, what: str, color: str) -> tuple[Pixels, Any]:
        """Decode a frame and do what can be done before its turn comes."""
        ...

    def start(
        self, pixels: Pixels, prepared: Any, supports: SupportSet, arranged: Any, scores: bool
    ) -> Any:
        """Set a frame going."""
        ...

    def finish(self, ticket: Any) -> Segmentation:
        """Its result; once for every ticket, unless it is abandoned."""
        ...

    def abandon(self, ticket: Any) -> None:
        """Nobody wants the frame any more."""
        ...

    def close(self) -> None:
        """Nothing more will come; harmless when repeated."""
        ...


class CpuPath:
    """Pillow and NumPy before and after the runner."""

    slots = 1

    def __init__(self, runner: Runner, size: tuple[int, int], preprocessing: Preprocessing) -> None:
        self._runner, self._size, self._preprocessing = runner, size, preprocessing

    def arrange(self, supports: SupportSet) -> Any:
        """What goes into each call of `match`."""
        return match_calls(self._runner, supports.classes.values())

    def another(self, slots: int) -> CpuPath:
        """This one: threads take turns at the runner."""
        return self

    def segment_all(
        self, images: Sequence[Any], supports: SupportSet, arranged: Any, color: str = "rgb"
    ) -> list[Segmentation]:
        """Segment queries, as many at once as the runner takes."""
        most = min(self._runner.limits.images, self._runner.limits.queries)
        results: list[Segmentation] = []
        for first in range(0, len(images), most):
            part = [view_image(i, _QUERY, color) for i in images[first : first + most]]
            results += self.segment_chunk(part, supports, arranged)
        return results

    def segment_chunk(
        self, pixels: list[Pixels], supports: SupportSet, arranged: Any
    ) -> list[Segmentation]:
        """Segment queries at once, at most as many as the runner takes."""
        start = time.perf_counter()
        prepared = network_input(pixels, self._size, self._preprocessing)
        return self._infer(prepared, 1000 * (time.perf_counter() - start), supports, arranged)

    def read(self, source: Any, what: str, color: str) -> tuple[Pixels, Any]:
        """Decode, resize and normalise."""
        pixels = view_image(source, what, color)
        start = time.perf_counter()
        prepared = network_input([pixels], self._size, self._preprocessing)
        return pixels, (prepared, 1000 * (time.perf_counter() - start))

    def start(
        self, pixels: Pixels, prepared: Any, supports: SupportSet, arranged: Any, scores: bool
    ) -> Any:
        """Nothing yet: there is no second device to work meanwhile."""
        return prepared, supports, arranged, scores

    def finish(self, ticket: Any) -> Segmentation:
        """Run the network and draw the masks."""
        (prepared, spent), supports, arranged, scores = ticket
        return self._infer(prepared, spent, supports, arranged, scores=scores)[0]

    def abandon(self, ticket: Any) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        """Nothing is held."""

    def _infer(
        self, prepared: Any, spent: float, supports: SupportSet, arranged: Any, *,
        scores: bool = True,
    ) -> list[Segmentation]:  # fmt: skip
        batch, placements = prepared
        clock = [time.perf_counter()]
        features = run_features(self._runner, batch)
        clock.append(time.perf_counter())
        logits = run_match(self._runner, features, arranged)
        clock.append(time.perf_counter())
        shares = [1000 * (b - a) / len(batch) for a, b in itertools.pairwise(clock)]
        shares.insert(0, spent / len(batch))
        names = tuple(supports.classes)
        results = []
        for planes, placement in zip(logits, placements, strict=True):
            start = time.perf_counter()
            masks, maps, labels = segment_logits(planes, supports.shots, placement)
            timing = dict(zip(("preprocess", "features", "match"), shares, strict=True))
            timing["postprocess"] = 1000 * (time.perf_counter() - start)
            results.append(
                Segmentation(
                    masks=dict(zip(names, masks, strict=True)),
                    scores=dict(zip(names, maps, strict=True)) if scores else {},
                    labels=labels,
                    classes=names,
                    timing=timing,
                )
            )
        return results


class GpuPath:
    """Kernels before and after the engines; see `gpu_frames`."""

    def __init__(self, frames: GpuFrames, slots: int = 2) -> None:
        self.slots = slots
        self._frames = frames
        self._lane = frames.open_lane(slots)

    def arrange(self, supports: SupportSet) -> Any:
        """All shots whole, one after the other."""
        return supports.stack()

    def another(self, slots: int) -> GpuPath:
        """The same with slots of its own, so that nobody else's frames hold them."""
        return GpuPath(self._frames, slots)

    def segment_all(
        self, images: Sequence[Any], supports: SupportSet, arranged: Any, color: str = "rgb"
    ) -> list[Segmentation]:
        """Segment queries, the next one under way while the one before comes back."""
        if len(images) == 1:
            pixels, _ = self.read(images[0], _QUERY, color)
            return [self.finish(self.start(pixels, None, supports, arranged, True))]
        lane, results, under_way = self.another(2), [], deque[Any]()
        try:
            for image in images:
                if len(under_way) == lane.slots:
                    results.append(lane.finish(under_way.popleft()))
                pixels, _ = self.read(image, _QUERY, color)
                under_way.append(lane.start(pixels, None, supports, arranged, True))
            while under_way:
                results.append(lane.finish(under_way.popleft()))
            return results
        finally:
            for ticket in under_way:
                lane.abandon(ticket)
            lane.close()

    def read(self, source: Any, what: str, color: str) -> tuple[Pixels, Any]:
        """Decode; the rest is the GPU's, BGR and rows that lie apart included."""
        return view_image(source, what, color), None

    def start(
        self, pixels: Pixels, prepared: Any, supports: SupportSet, arranged: Any, scores: bool
    ) -> Any:
        """Send the frame to the GPU."""
        ticket = self._lane.submit(pixels, arranged, supports.shots, scores=scores)
        return ticket, tuple(supports.classes)

    def finish(self, ticket: Any) -> Segmentation:
        """Wait for the frame and take its masks."""
        frame, names = ticket
        answer: FrameAnswer = self._lane.collect(frame)
        return Segmentation(
            masks=dict(zip(names, answer.masks, strict=True)),
            scores=dict(zip(names, answer.scores, strict=True)) if answer.scores else {},
            labels=answer.labels,
            classes=names,
            timing=answer.timing,
        )

    def abandon(self, ticket: Any) -> None:
        """Wait for a frame that nobody wants any more."""
        self._lane.abandon(ticket[0])

    def close(self) -> None:
        """Give the slots back."""
        self._lane.close()
