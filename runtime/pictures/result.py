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
        masks: by class, bool [H,W], True where the class was found: its shots vote. Masks of
            different classes may overlap.
        scores: by class, float32 [H,W] in [0,1]: the foreground softmax, averaged over its shots.
            An empty dict if no scores were asked for (`stream`).
        labels: uint8 [H,W]: 0 for background, i + 1 for `classes[i]`. Where masks overlap, the
            class with the highest score.
        classes: the classes, in the order they were set.
        presence: by class, a score in [0,1] of whether it is in the picture at all: how like its
            objects the query is, see `matching.presence`. 1 if the object is too small for that in
            all of its shots.
        present_from: the score from which a class counts as present; 0 if it was not calibrated.
        timing: milliseconds of `preprocess`, `features`, `match` and `postprocess`; in a batch, an
            equal share for each query. Where the GPU prepares frames and draws masks, its own
            events are the clock, `preprocess` includes the upload and `postprocess` the download.
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
        """By class, whether it counts as present. If not, its mask may still not be empty."""
        return {n: self.presence.get(n, 1.0) >= self.present_from for n in self.classes}

    def only_present(self) -> Segmentation:
        """A copy in which the masks of classes that do not count as present are empty.

        Their scores stay. Where such a class had the label, the label becomes that of the present
        class with the highest score whose mask holds there (without scores, of the first), else 0.
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
        """The classes found, as `supervision.Detections`, one detection for each.

        Raises:
            HSNetError: supervision is not installed.
        """
        from hsnet_trt.runtime.pictures.detections import supervision_detections

        return supervision_detections(self)

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """The classes found, as rows of a COCO results file, one row for each.

        Args:
            image_id: the image's id in the annotations.

        Returns:
            For each class found: `image_id`, `category_id` (as in `labels`), `segmentation` (run
            lengths) and `score`.

        Raises:
            HSNetError: pycocotools is not installed.
        """
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
        index: its number in the source, from 0; dropped frames count.
        image: uint8 [H,W,3] RGB; None if it could not be read. For a frame that was an array, it
            may be a view of that array, with its memory layout.
        result: the segmentation; None if the frame failed.
        error: what failed; None if nothing did.
        dropped: how many frames of the stream have been dropped so far.
    """

    index: int
    image: npt.NDArray[np.uint8] | None
    result: Segmentation | None
    error: HSNetError | None
    dropped: int = 0
