"""Connected parts of masks as instances, with the colour histograms that identify them later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.runtime.pictures.detections import FoundMasks
from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.pictures.preprocess import Floats
from hsnet_trt.runtime.video.motion import load_opencv

_LEAST = 0.001  # share of the picture that an instance covers at least
_BINS = 8  # per channel of the colour histogram

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Part:
    """A connected part of a class's mask.

    Attributes:
        name: the class.
        box: x, y, width, height, in pixels.
        area: in pixels.
        score: the mean score within the part, 0..1; None if scores were not asked for.
        inside: bool [height,width], the part's pixels within the box.
        colours: colour histogram, float32 [512], summing to 1.
    """

    name: str
    box: tuple[int, int, int, int]
    area: int
    score: float | None
    inside: Mask
    colours: Floats


def find_parts(result: FoundMasks, image: Pixels) -> list[Part]:
    """The connected parts of every class that cover a thousandth of the picture or more.

    Args:
        result: masks of one frame.
        image: the frame, uint8 [H,W,3].

    Raises:
        HSNetError: OpenCV is not installed.
    """
    cv2 = load_opencv()
    found = []
    for name in result.classes:
        mask = result.masks[name]
        count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), None)
        for number in range(1, count):
            x, y, width, height, area = (int(n) for n in stats[number])
            if area < _LEAST * mask.size:
                continue
            place = (slice(y, y + height), slice(x, x + width))
            inside = parts[place] == number
            scores = result.scores.get(name)
            score = None if scores is None else float(scores[place][inside].mean())
            colours = _colours(image[place][inside])
            found.append(Part(name, (x, y, width, height), area, score, inside, colours))
    return found


def _colours(pixels: Any) -> Floats:
    """The colour histogram of pixels [n,3]."""
    bins = (pixels // (256 // _BINS)).astype(np.int64) @ [_BINS * _BINS, _BINS, 1]
    counts = np.bincount(bins, minlength=_BINS**3)
    return (counts / max(1, len(bins))).astype(np.float32)


def overlap(one: Part, other: Part) -> float:
    """Intersection over union of two parts' pixels, 0..1."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = one.box, other.box
    left, top = max(ax, bx), max(ay, by)
    right, bottom = min(ax + aw, bx + bw), min(ay + ah, by + bh)
    if right <= left or bottom <= top:
        return 0.0
    mine = one.inside[top - ay : bottom - ay, left - ax : right - ax]
    its = other.inside[top - by : bottom - by, left - bx : right - bx]
    both = int((mine & its).sum())
    return both / (one.area + other.area - both)


def distance(one: Part, other: Part) -> float:
    """The distance between the centres of two parts' boxes, over their mean diagonal."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = one.box, other.box
    apart = np.hypot(ax + aw / 2 - bx - bw / 2, ay + ah / 2 - by - bh / 2)
    return float(2 * apart / (np.hypot(aw, ah) + np.hypot(bw, bh)))


@dataclass(frozen=True, eq=False)
class Instance:
    """One tracked instance in one frame.

    Attributes:
        id: the same in every frame, from 1.
        name: its class.
        class_id: index of the class in the result's `classes`, from 0.
        box: x, y, width, height, in pixels.
        area: in pixels.
        score: the mean score within the mask, 0..1; None if scores were not asked for.
        mask: bool [H,W].
        first_seen: number of the first frame in which it was seen.
        frame: number of this frame.
    """

    id: int
    name: str
    class_id: int
    box: tuple[int, int, int, int]
    area: int
    score: float | None
    mask: Mask
    first_seen: int
    frame: int


def draw_instances(picture: Pixels, instances: Sequence[Instance]) -> None:
    """Draw boxes, names and ids into a picture, uint8 [H,W,3] RGB, in place.

    A BGR array is drawn into through its reversed view, `[:, :, ::-1]`.

    Raises:
        HSNetError: OpenCV is not installed.
    """
    cv2 = load_opencv()
    from hsnet_trt.runtime.pictures.overlay import class_colour

    turned = picture.strides[2] < 0
    stored = picture[:, :, ::-1] if turned else picture
    scale = max(0.4, picture.shape[0] / 900)
    thick = max(1, round(1.5 * scale))
    for one in instances:
        colour = class_colour(one.class_id)
        colour = colour[::-1] if turned else colour
        x, y, width, height = one.box
        cv2.rectangle(stored, (x, y), (x + width - 1, y + height - 1), colour, thick)
        text, font = f"{one.name} {one.id}", cv2.FONT_HERSHEY_SIMPLEX
        (wide, high), below = cv2.getTextSize(text, font, scale, thick)
        top = max(0, y - high - below)
        cv2.rectangle(stored, (x, top), (x + wide, top + high + below), (0, 0, 0), -1)
        cv2.putText(stored, text, (x, top + high), font, scale, colour, thick, cv2.LINE_AA)


def supervision_instances(instances: Sequence[Instance], shape: tuple[int, int]) -> Any:
    """The instances of a frame of `shape` [H,W] as `supervision.Detections` with `tracker_id`.

    Raises:
        HSNetError: supervision is not installed.
    """
    from hsnet_trt.runtime.pictures.detections import make_supervision

    rows: list[Mapping[str, Any]] = [
        {"class": one.name, "box": one.box, "score": one.score, "mask": one.mask}
        for one in instances
    ]
    ids = [one.class_id for one in instances]
    return make_supervision(rows, ids, shape, tracker_ids=[one.id for one in instances])
