"""Instances and events as text: COCO-style JSON lines, MOT's results, events as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.pictures.detections import encode_mask
from hsnet_trt.runtime.video.instances import Instance
from hsnet_trt.runtime.video.tracker import Event

Format = Callable[[Instance], str]


def coco_line(one: Instance) -> str:
    """An instance as a line of JSON: a COCO annotation with `track_id` and `first_seen`.

    `image_id` is the frame's number from 0, `category_id` is 1 + the index of the class.

    Raises:
        HSNetError: pycocotools is not installed.
    """
    row = {
        "image_id": one.frame,
        "category_id": one.class_id + 1,
        "category": one.name,
        "track_id": one.id,
        "bbox": list(one.box),
        "area": one.area,
        "score": None if one.score is None else round(one.score, 4),
        "first_seen": one.first_seen,
        "segmentation": encode_mask(one.mask),
    }
    return json.dumps(row)


def mot_line(one: Instance) -> str:
    """An instance as a line of MOTChallenge results.

    Frame, id, left, top, width, height, confidence, and three times -1; frame, left and top count
    from 1.
    """
    x, y, width, height = one.box
    score = 1.0 if one.score is None else one.score
    return f"{one.frame + 1},{one.id},{x + 1},{y + 1},{width},{height},{score:.4f},-1,-1,-1"


def event_line(event: Event, rate: float | None) -> str:
    """An event as a line of JSON; with `seconds` if `rate`, in frames a second, is known."""
    row: dict[str, object] = {
        "event": event.kind,
        "id": event.id,
        "class": event.name,
        "frame": event.frame,
        "bbox": list(event.box),
    }
    if rate:
        row["seconds"] = round(event.frame / rate, 3)
    return json.dumps(row)


def format_of(path: Path) -> Format:
    """The format of a file of tracks, by its suffix: `.jsonl` or `.txt`.

    Raises:
        InputError: another suffix.
    """
    formats: dict[str, Format] = {".jsonl": coco_line, ".txt": mot_line}
    if path.suffix.lower() not in formats:
        raise InputError(
            f"{path} does not say in which form tracks are to be written",
            expected="a name that ends in .jsonl (as COCO's annotations) or .txt (as MOT's)",
        )
    return formats[path.suffix.lower()]


class LineFile:
    """A text file to which lines are added, flushed after each frame."""

    def __init__(self, path: Path) -> None:
        """Open the file, replacing an older one.

        Raises:
            InputError: it cannot be written.
        """
        try:
            path.absolute().parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"{path} cannot be written",
                found=error.strerror,
                fix="choose another path, or see who may write there",
            ) from error

    def write(self, lines: Sequence[str]) -> None:
        """Add the lines of one frame."""
        if lines:
            self._file.write("".join(f"{line}\n" for line in lines))
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
