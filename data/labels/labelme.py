"""Masks from the JSON files of LabelMe: polygons, rectangles, circles and masks."""

from __future__ import annotations

import base64
import binascii
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from hsnet_trt.data.episodes.episode import Mask
from hsnet_trt.data.labels.label_files import check_size, read_json
from hsnet_trt.errors import InputError

_POINTS = {"rectangle": 2, "circle": 2, "mask": 2, "oriented_rectangle": 4}  # polygon: at least 3


@dataclass(frozen=True)
class LabelMe:
    """The shapes of one image, from one file.

    Attributes:
        path: the file.
        image: the image's name, unchecked.
        size: (height, width) of the image.
        shapes: unchanged from the file.
    """

    path: Path
    image: object
    size: tuple[int, int]
    shapes: list[dict[str, Any]]

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of their first shape."""
        return list(dict.fromkeys(shape["label"] for shape in self.shapes))

    def mask(self, label: str, *, alone: bool = False) -> Mask:
        """Draw all shapes of a label, bool [H,W].

        Args:
            label: the label.
            alone: if there is only one label, use it, whatever its name.

        Raises:
            InputError: no shape has that label, or one of them is broken.
        """
        labels = self.labels
        if alone and len(labels) == 1:
            label = labels[0]
        if label not in labels:
            raise InputError(
                f"{self.path} has no label {label}",
                expected=f"one of {', '.join(labels) or 'none'}",
                fix="call the class as the label is called",
            )
        mask = np.zeros(self.size, np.bool_)
        for number, shape in enumerate(self.shapes):
            if shape["label"] == label:
                try:
                    mask |= _draw(shape, self.size)
                except (KeyError, ValueError, TypeError, OverflowError) as error:
                    raise InputError(
                        f"shape {number} of {self.path} cannot be drawn",
                        expected="a polygon, rectangle, circle or mask",
                        found=error,
                    ) from error
        return mask


def read_labelme(path: Path) -> LabelMe:
    """Read a LabelMe file. Raises InputError naming it."""
    return from_content(read_json(path), path)


def from_content(content: dict[str, Any], path: Path) -> LabelMe:
    """Check the content of a LabelMe file. Raises InputError naming it."""
    shapes = content.get("shapes")
    right = isinstance(shapes, list) and all(
        isinstance(shape, dict) and isinstance(shape.get("label"), str) for shape in shapes
    )
    if not right or not isinstance(shapes, list):
        raise InputError(
            f"{path} is not a file of LabelMe",
            expected="an object with shapes, each with its label",
            found=f"an object with {', '.join(list(content)[:8]) or 'nothing'}",
            fix="a file of COCO's is given by --labels" if "annotations" in content else None,
        )
    size = check_size(content.get("imageHeight"), content.get("imageWidth"), path)
    return LabelMe(path, content.get("imagePath"), size, shapes)


def _draw(shape: dict[str, Any], size: tuple[int, int]) -> Mask:
    kind = shape.get("shape_type") or "polygon"
    points = [(float(x), float(y)) for x, y in shape["points"] if _finite(x, y)]
    wrong = len(points) != _POINTS[kind] if kind in _POINTS else len(points) < 3
    if kind not in {"polygon", *_POINTS} or wrong or len(points) != len(shape["points"]):
        raise ValueError(f"a {kind} of {len(shape['points'])} points")
    if kind == "mask":
        return _stored(shape, points, size)
    picture = Image.new("1", size[::-1])
    pen = ImageDraw.Draw(picture)
    if kind in ("polygon", "oriented_rectangle"):
        pen.polygon(points, fill=1, outline=1)
    elif kind == "rectangle":
        (x1, y1), (x2, y2) = points
        pen.rectangle((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), fill=1, outline=1)
    else:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)
    return np.asarray(picture)


def _finite(x: Any, y: Any) -> bool:
    return abs(float(x)) < 1e6 and abs(float(y)) < 1e6  # Pillow's limit for drawing


def _stored(
    shape: dict[str, Any], points: list[tuple[float, float]], size: tuple[int, int]
) -> Mask:
    """A mask as LabelMe stores it: a base64 PNG of the rectangle between two points."""
    try:
        data = base64.b64decode(shape["mask"], validate=True)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            part = picture.size
            stored = np.asarray(picture.convert("1") if picture.mode != "L" else picture) > 0
    except (KeyError, OSError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise ValueError(f"a mask that is no PNG: {error}") from error
    (x1, y1), (x2, y2) = [(round(x), round(y)) for x, y in points]
    inside = 0 <= x1 <= x2 < size[1] and 0 <= y1 <= y2 < size[0]
    if not inside or part != (x2 - x1 + 1, y2 - y1 + 1):
        raise ValueError(
            f"a mask of {part[0]} x {part[1]} from {x1},{y1} to {x2},{y2} in {size[1]} x {size[0]}"
        )
    mask = np.zeros(size, np.bool_)
    mask[y1 : y2 + 1, x1 : x2 + 1] = stored
    return mask
