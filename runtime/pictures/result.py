"""What `segment` returns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import HSNetError


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """The masks of one query, at the query's own size [H,W] (after any EXIF rotation).

    Attributes:
        masks: by class, bool [H,W]: the vote of its shots. Masks of different classes may overlap.
        scores: by class, float32 [H,W] in [0,1]: the mean over its shots of the foreground softmax.
            Empty where they were not asked for (`stream`).
        labels: uint8 [H,W]: 0 background; i + 1 for `classes[i]`, the class with the highest score
            among those whose mask holds there.
        classes: the classes, in the order they were set.
        presence: by class, a score in [0,1] of whether it is there at all: the mean over its shots
            of how like its object the query is, see `matching.presence`. 1 where the object is too
            small in all of its shots for that.
        present_from: the score from which a class counts as present; 0 where nobody calibrated it.
        timing: milliseconds of `preprocess`, `features`, `match` and `postprocess`; of a batch,
            this query's equal share. On a GPU that prepares and draws by itself, from its own
            events: `preprocess` includes the way up, `postprocess` the way down.
    """

    masks: dict[str, npt.NDArray[np.bool_]]
    scores: dict[str, npt.NDArray[np.float32]]
    labels: npt.NDArray[np.uint8]
    classes: tuple[str, ...]
    timing: dict[str, float]
    presence: dict[str, float] = field(default_factory=dict)
    present_from: float = 0.0

    @property
    def present(self) -> dict[str, bool]:
        """By class, whether it is there at all. Masks are drawn in any case: see `only_present`."""
        return {n: self.presence.get(n, 1.0) >= self.present_from for n in self.classes}

    def only_present(self) -> Segmentation:
        """The same without what was found of classes that are not there.

        Their masks are empty, their scores stay; where they had the label, it goes to the class
        that is there and has the highest score (without scores, to the first), or to none, as it
        does where there are no masks.
        """
        here = self.present
        if all(here.values()):
            return self
        masks = {n: m if here[n] else np.zeros_like(m) for n, m in self.masks.items()}
        gone = [i + 1 for i, name in enumerate(self.classes) if not here[name]]
        open_to_others = np.isin(self.labels, gone)
        labels = np.where(open_to_others, 0, self.labels).astype(np.uint8)
        best = np.full(labels.shape, -1.0, np.float32)
        for i, name in enumerate(self.classes):
            if name not in masks:
                continue
            score = self.scores.get(name, np.float32(0))
            wins = open_to_others & masks[name] & (score > best)
            labels[wins] = i + 1
            np.copyto(best, score, where=wins)
        return dataclasses.replace(self, masks=masks, labels=labels)

    def to_supervision(self) -> Any:
        """The classes found as `supervision.Detections`: see `detections`."""
        from hsnet_trt.runtime.pictures.detections import supervision_detections

        return supervision_detections(self)

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """The classes found as rows of a COCO results file: see `detections`."""
        from hsnet_trt.runtime.pictures.detections import coco_results

        return coco_results(self, image_id)

    def __repr__(self) -> str:
        height, width = self.labels.shape
        found = ", ".join(f"{name} {100 * self.masks[name].mean():.1f} %" for name in self.classes)
        return f"Segmentation({height} x {width}: {found}; {sum(self.timing.values()):.0f} ms)"


@dataclass(frozen=True, eq=False)
class StreamedFrame:
    """One frame of `FewShotSegmenter.stream`: its result, or why there is none.

    Attributes:
        index: its number in the source, from 0, dropped frames counted.
        image: uint8 [H,W,3] RGB; None if it could not be read. Of an array that was given it may be
            a view, whose channels and rows lie in memory as the array's do.
        result: the segmentation; None if the frame failed.
        error: what failed; None if nothing did.
        dropped: how many frames of the stream were dropped up to now.
    """

    index: int
    image: npt.NDArray[np.uint8] | None
    result: Segmentation | None
    error: HSNetError | None
    dropped: int = 0
