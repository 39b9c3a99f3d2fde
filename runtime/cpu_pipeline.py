"""The frame pipeline on the CPU: Pillow and NumPy around any runner."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.matching.graphs import Tensors
from hsnet_trt.runtime.matching.presence import Seen, objects_of, presence, score_queries
from hsnet_trt.runtime.matching.runner import Runner
from hsnet_trt.runtime.matching.running import match_calls, run_features, run_match
from hsnet_trt.runtime.matching.support_set import SupportSet
from hsnet_trt.runtime.pictures.guided_filter import refine
from hsnet_trt.runtime.pictures.images import Pixels, view_image
from hsnet_trt.runtime.pictures.postprocess import segment_logits
from hsnet_trt.runtime.pictures.preprocess import Placement, network_input, place
from hsnet_trt.runtime.pictures.result import Segmentation
from hsnet_trt.runtime.pictures.window import Window
from hsnet_trt.runtime.pipeline import ArrangedSupports


@dataclass(frozen=True)
class Prepared:
    """Preprocessed images.

    Attributes:
        batch: float32 [N,3,H,W], normalised.
        placements: where each photograph is in its input.
        milliseconds: for preprocessing all of them.
    """

    batch: npt.NDArray[np.float32]
    placements: list[Placement]
    milliseconds: float


@dataclass(frozen=True)
class Guide:
    """The guide of mask refinement: see `pictures.guided_filter.refine`.

    Attributes:
        pictures: the network's inputs, float32 [N,3,H,W], normalised.
        preprocessing: the normalisation that was used.
    """

    pictures: npt.NDArray[np.float32]
    preprocessing: Preprocessing


@dataclass(frozen=True)
class CpuFrame:
    """A decoded frame; see `pipeline.ReadFrame`.

    Attributes:
        pipeline: the frame's pipeline.
        pixels: uint8 [H,W,3] RGB.
        placement: where the whole frame is in the network's input.
        prepared: the whole frame, preprocessed; None to do that when it is matched.
    """

    pipeline: CpuFramePipeline
    pixels: Pixels
    placement: Placement
    prepared: Prepared | None

    def start(self, supports: ArrangedSupports, *, scores: bool) -> CpuPending:
        """Run nothing yet: there is no second device to overlap with."""
        return CpuPending(self, supports, scores)

    def match(self, supports: ArrangedSupports, window: Window | None = None) -> CpuMatched:
        """Run the network on the frame, or on a window of it."""
        whole, pipeline = self.prepared, self.pipeline
        if whole is None and (window is None or pipeline.refine):
            whole = pipeline.prepare([self.pixels])
        if window is None:
            assert whole is not None
            return pipeline.match(whole, supports)
        matched = pipeline.match(pipeline.prepare([window.of(self.pixels)]), supports)
        matched = dataclasses.replace(matched, drawn=[self.placement])
        if whole is None or matched.guide is None:
            return matched
        # Masks are drawn of the whole frame, so the whole frame guides their refinement.
        timing = dict(matched.timing)
        timing["preprocess"] += whole.milliseconds
        guide = dataclasses.replace(matched.guide, pictures=whole.batch)
        return dataclasses.replace(matched, guide=guide, timing=timing)


@dataclass(frozen=True)
class CpuPending:
    """A frame whose turn has come; see `pipeline.Pending`."""

    frame: CpuFrame
    supports: ArrangedSupports
    scores: bool

    def result(self) -> Segmentation:
        """Run the network and draw the masks."""
        frame = self.frame
        prepared = frame.prepared or frame.pipeline.prepare([frame.pixels])
        return frame.pipeline.infer(prepared, self.supports, scores=self.scores)[0]

    def abandon(self) -> None:
        """No-op: nothing is running."""


@dataclass(frozen=True)
class CpuMatched:
    """N matched images: like `video.following.MatchedFrame`, but possibly several.

    Attributes:
        features: `f2`, `f3`, `f4` [N,L,C,row].
        logits: float32 [N,S,2,h,w].
        shot_scores: presence score of each shot, float32 [N,S] in [0,1]: see `matching.presence`.
        placements: where each matched photograph or window is in the network's input.
        drawn: where the whole photographs would be in it.
        timing: milliseconds of `preprocess`, `features` and `match`, per image.
        guide: the guide of mask refinement; None without it.
    """

    features: Tensors
    logits: npt.NDArray[np.float32]
    shot_scores: npt.NDArray[np.float32]
    placements: list[Placement]
    drawn: list[Placement]
    timing: dict[str, float]
    guide: Guide | None = None

    @property
    def placement(self) -> Placement:
        """Where the first photograph or window is in the network's input."""
        return self.placements[0]

    def draw(
        self,
        logits: npt.NDArray[np.float32],
        classes: Mapping[str, int],
        seen: Seen,
        *,
        scores: bool,
        index: int = 0,
    ) -> Segmentation:
        """Draw the masks of image `index`.

        Args:
            logits: float32 [S,2,h,w], class after class.
            classes: the number of shots of each class; their sum is S.
            seen: the presence scores.
            scores: whether the result carries score maps.
            index: of the image, from 0.
        """
        start = time.perf_counter()
        if self.guide is not None:
            logits = refine(logits, self.guide.pictures[index], self.guide.preprocessing)
        drawn = segment_logits(logits, list(classes.values()), self.drawn[index])
        masks, maps, labels = drawn
        timing = {**self.timing, "postprocess": 1000 * (time.perf_counter() - start)}
        return Segmentation(
            masks=dict(zip(classes, masks, strict=True)),
            scores=dict(zip(classes, maps, strict=True)) if scores else {},
            labels=labels,
            classes=tuple(classes),
            timing=timing,
            presence=seen.presence,
            present_from=seen.present_from,
        )

    def abandon(self) -> None:
        """No-op: nothing is running."""


class CpuFramePipeline:
    """A `pipeline.FramePipeline` on the CPU; safe to use from several threads, as the runner is.

    Attributes:
        refine: whether masks are refined: see `pictures.guided_filter`.
    """

    slots = 1

    def __init__(
        self,
        runner: Runner,
        size: tuple[int, int],
        preprocessing: Preprocessing,
        present_from: float,
        *,
        refine: bool = False,
    ) -> None:
        self._runner, self._size, self._preprocessing = runner, size, preprocessing
        self._present_from, self.refine = present_from, refine

    def arrange(self, supports: SupportSet) -> ArrangedSupports:
        """Group the shots into calls of the runner's limit; packed shots become views of these."""
        calls = match_calls(self._runner, supports.classes.values())
        return ArrangedSupports(supports, calls, objects_of(supports))

    def with_slots(self, slots: int) -> CpuFramePipeline:
        """This pipeline: it has no state per frame."""
        return self

    def segment_all(
        self, images: Sequence[Any], supports: ArrangedSupports, color: str = "rgb"
    ) -> list[Segmentation]:
        """Segment queries in batches of the runner's limit."""
        most = min(self._runner.limits.images, self._runner.limits.queries)
        results: list[Segmentation] = []
        for first in range(0, len(images), most):
            part = images[first : first + most]
            pixels = [view_image(image, "the query image", color) for image in part]
            results += self.infer(self.prepare(pixels), supports)
        return results

    def read(self, source: Any, what: str, color: str) -> CpuFrame:
        """Decode, resize and normalise."""
        frame = self.view(source, what, color)
        return dataclasses.replace(frame, prepared=self.prepare([frame.pixels]))

    def view(self, source: Any, what: str, color: str) -> CpuFrame:
        """Decode only, since the window to match is not known yet."""
        pixels = view_image(source, what, color)
        shape = (pixels.shape[0], pixels.shape[1])
        return CpuFrame(self, pixels, place(shape, self._size, self._preprocessing.resize), None)

    def close(self) -> None:
        """Nothing to free."""

    def infer(
        self, prepared: Prepared, supports: ArrangedSupports, *, scores: bool = True
    ) -> list[Segmentation]:
        """Run the network on prepared images, and draw the masks of each.

        Raises:
            BackendError: the backend failed, or the logits are not finite.
        """
        matched, supported = self.match(prepared, supports), supports.supports
        results = []
        pairs = zip(matched.logits, matched.shot_scores, strict=True)
        for index, (planes, found) in enumerate(pairs):
            here = presence(found, supports.objects.counts, supported.shots)
            seen = Seen(dict(zip(supported.classes, here, strict=True)), self._present_from)
            results.append(matched.draw(planes, supported.counts, seen, scores=scores, index=index))
        return results

    def match(self, prepared: Prepared, supports: ArrangedSupports) -> CpuMatched:
        """Run the network on prepared images.

        Raises:
            BackendError: the backend failed, or the logits are not finite.
        """
        clock = [time.perf_counter()]
        features = run_features(self._runner, prepared.batch)
        clock.append(time.perf_counter())
        logits = run_match(self._runner, features, supports.calls)
        clock.append(time.perf_counter())
        count = len(prepared.batch)
        shares = [1000 * (b - a) / count for a, b in itertools.pairwise(clock)]
        shares.insert(0, prepared.milliseconds / count)
        timing = dict(zip(("preprocess", "features", "match"), shares, strict=True))
        found, where = score_queries(features["f4"], supports.objects), prepared.placements
        guide = Guide(prepared.batch, self._preprocessing) if self.refine else None
        return CpuMatched(features, logits, found, where, where, timing, guide)

    def prepare(self, pixels: list[Pixels]) -> Prepared:
        """Resize and normalise."""
        start = time.perf_counter()
        batch, placements = network_input(pixels, self._size, self._preprocessing)
        return Prepared(batch, placements, 1000 * (time.perf_counter() - start))
