"""A result in the formats of other tools: COCO annotations, supervision's detections.

Each class is one object, since HSNet does not separate instances.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import HSNetError, InputError


class FoundMasks(Protocol):
    """The attributes of a `Segmentation` that are used here."""

    @property
    def masks(self) -> Mapping[str, npt.NDArray[np.bool_]]:
        """By class, bool [H,W]."""
        ...

    @property
    def scores(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """By class, float32 [H,W] in [0,1]; empty if they were not asked for."""
        ...

    @property
    def labels(self) -> npt.NDArray[np.uint8]:
        """uint8 [H,W], 0 for background, i + 1 for `classes[i]`."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order they were set."""
        ...


def detections(result: FoundMasks) -> list[dict[str, Any]]:
    """Every class whose mask is not empty, in the classes' order.

    Returns:
        For each: `class`, `box` (x, y, width, height, in pixels), `area` in pixels, `score` in
        [0,1] (the mean score within the mask; None if scores were not asked for) and `mask`, bool
        [H,W].
    """
    found = []
    for name in result.classes:
        mask = result.masks[name]
        if not mask.any():
            continue
        down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        left, top = int(across[0]), int(down[0])
        found.append(
            {
                "class": name,
                "box": [left, top, int(across[-1]) - left + 1, int(down[-1]) - top + 1],
                "area": int(mask.sum()),
                "score": float(result.scores[name][mask].mean()) if result.scores else None,
                "mask": mask,
            }
        )
    return found


def encode_mask(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """A mask bool [H,W] in COCO's form: `size` [H,W] and `counts`, compressed run lengths.

    Raises:
        HSNetError: pycocotools is not installed.
    """
    encoded = _pycocotools().encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(n) for n in encoded["size"]], "counts": encoded["counts"].decode()}


def coco_results(result: FoundMasks, image_id: int) -> list[dict[str, Any]]:
    """The classes that were found, as rows of a COCO results file.

    Args:
        result: what `segment` returned.
        image_id: the image's id in the ground-truth annotations.

    Returns:
        For each: `image_id`, `category_id` (1 + the index of the class in `result.classes`, as in
        `result.labels`), `segmentation` (run lengths) and `score`. No `bbox`: with one, pycocotools
        uses the box's area instead of the mask's.

    Raises:
        InputError: the result carries no scores.
        HSNetError: pycocotools is not installed.
    """
    rows = []
    for one in detections(result):
        if one["score"] is None:
            raise InputError(
                "the result carries no scores, which COCO's results have",
                fix="ask for them: stream(frames, scores=True)",
            )
        rows.append(
            {
                "image_id": image_id,
                "category_id": 1 + result.classes.index(one["class"]),
                "segmentation": encode_mask(one["mask"]),
                "score": one["score"],
            }
        )
    return rows


def coco_dataset(
    images: Sequence[tuple[str | os.PathLike[str], tuple[int, int], list[dict[str, Any]]]],
    classes: Sequence[str],
) -> dict[str, Any]:
    """The results of several images as a COCO annotation file.

    Args:
        images: for each its path, its (height, width), and its `coco_results`, whose image_id are
            1, 2, 3, ... in this order.
        classes: the classes of the results.

    Returns:
        `images` (`file_name` is relative to their deepest common folder), `categories` and
        `annotations` (the rows, with `id`, `bbox`, `area` and `iscrowd`): write it with `json.dump`
        and load it with pycocotools' `COCO`.

    Raises:
        HSNetError: pycocotools is not installed.
    """
    paths = [os.path.abspath(path) for path, _, _ in images]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    listed = []
    for number, (path, (_, (height, width), _)) in enumerate(zip(paths, images, strict=True), 1):
        name = os.path.relpath(path, folder).replace(os.sep, "/")
        listed.append({"id": number, "file_name": name, "height": height, "width": width})
    annotations = []
    for number, row in enumerate((row for _, _, rows in images for row in rows), 1):
        lengths = row["segmentation"]
        annotations.append(
            {
                "id": number,
                **row,
                "bbox": [int(n) for n in _pycocotools().toBbox(lengths)],
                "area": int(_pycocotools().area(lengths)),
                "iscrowd": 0,
            }
        )
    return {
        "images": listed,
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
        "annotations": annotations,
    }


def supervision_detections(result: FoundMasks) -> Any:
    """The classes that were found, as `supervision.Detections`.

    Returns:
        `xyxy` float32 [n,4] (left, top, and one past right and bottom), `mask` bool [n,H,W],
        `confidence` float32 [n] (None if scores were not asked for), `class_id` int64 [n] (the
        index of the class in `result.classes`), and `data["class_name"]`, str [n].

    Raises:
        HSNetError: supervision is not installed.
    """
    found = detections(result)
    places = [result.classes.index(one["class"]) for one in found]
    shape = (result.labels.shape[0], result.labels.shape[1])
    return make_supervision(found, places, shape, scored=bool(result.scores))


def make_supervision(
    rows: Sequence[Mapping[str, Any]],
    class_ids: Sequence[int],
    shape: tuple[int, int],
    *,
    scored: bool = True,
    tracker_ids: Sequence[int] | None = None,
) -> Any:
    """`supervision.Detections` of rows with `class`, `box`, `score` and `mask`, as in `detections`.

    Args:
        rows: the n detections.
        class_ids: of each row.
        shape: height and width of the picture.
        scored: whether the rows have scores.
        tracker_ids: of each row, if they were tracked.

    Raises:
        HSNetError: supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise HSNetError(
            "supervision is not installed", found=error, fix="pip install 'hsnet-trt[supervision]'"
        ) from error
    boxes = np.array([one["box"] for one in rows], np.float32).reshape(-1, 4)
    masks = [one["mask"] for one in rows]
    scored = scored and all(one["score"] is not None for one in rows)
    return supervision.Detections(
        xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        mask=np.stack(masks) if masks else np.zeros((0, *shape), np.bool_),
        confidence=np.array([one["score"] for one in rows], np.float32) if scored else None,
        class_id=np.array(class_ids, np.int64),
        tracker_id=None if tracker_ids is None else np.array(tracker_ids, np.int64),
        data={"class_name": np.array([one["class"] for one in rows], str)},
    )


def _pycocotools() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise HSNetError(
            "COCO's run lengths need pycocotools, which is not installed",
            found=error,
            fix="pip install 'hsnet-trt[labels]'",
        ) from error
    return mask
