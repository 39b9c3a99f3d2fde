"""What `segment` returns."""

from __future__ import annotations

from dataclasses import dataclass
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
        timing: milliseconds of `preprocess`, `features`, `match` and `postprocess`; of a batch,
            this query's equal share. On a GPU that prepares and draws by itself, from its own
            events: `preprocess` includes the way up, `postprocess` the way down.
    """

    masks: dict[str, npt.NDArray[np.bool_]]
    scores: dict[str, npt.NDArray[np.float32]]
    labels: npt.NDArray[np.uint8]
    classes: tuple[str, ...]
    timing: dict[str, float]

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
