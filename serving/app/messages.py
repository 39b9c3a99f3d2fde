"""HTTP messages of the page's server: requests parsed, results and errors as responses."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from starlette.responses import JSONResponse, Response

from hsnet_trt.errors import HSNetError, InputError
from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.pictures.masks import Mask
from hsnet_trt.runtime.pictures.overlay import label_picture
from hsnet_trt.runtime.pictures.result import Segmentation
from hsnet_trt.serving.store.store import StoreFullError, UnknownSetError


class TooLargeError(InputError):
    """A body exceeds the size limit."""


class BusyError(HSNetError):
    """Too many requests are in progress."""


_STATUS: tuple[tuple[type[HSNetError], int], ...] = (
    (TooLargeError, 413),
    (UnknownSetError, 404),
    (InputError, 400),
    (StoreFullError, 503),
    (BusyError, 503),
    (HSNetError, 500),
)


def refusal(error: HSNetError) -> Response:
    """An error as {"error": {summary, expected, found, fix}}, with the status of its kind."""
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    content = {
        "summary": error.summary,
        "expected": error.expected,
        "found": error.found,
        "fix": error.fix,
    }
    return JSONResponse({"error": content}, status_code=status)


def read_classes(body: bytes) -> list[tuple[str, list[str]]]:
    """The names and shots' ids of {"classes": [{"name": ..., "shots": [...]}]}.

    Names are not checked.

    Raises:
        InputError: the body has another form.
    """
    try:
        sent = json.loads(body)["classes"]
        classes = [(entry["name"], list(entry["shots"])) for entry in sent]
        if all(isinstance(key, str) for _, keys in classes for key in keys):
            return classes
        found: object = "something else"
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        found = error
    raise InputError(
        "the classes are not understood",
        expected='{"classes": [{"name": "mug", "shots": ["id", ...]}]}',
        found=found,
    )


def read_box(text: str) -> tuple[int, int, int, int]:
    """Parse a box "x,y,width,height".

    Raises:
        InputError: the text has another form.
    """
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            "the box is not understood", expected="x,y,width,height", found=text[:40]
        ) from error
    return x, y, width, height


def named(classes: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """Shots' ids by class, as `read_classes` reads them."""
    return [{"name": name, "shots": keys} for name, keys in classes.items()]


def css(colour: tuple[int, int, int]) -> str:
    """An RGB colour as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def segmented(result: Segmentation) -> Response:
    """A result as JSON.

    It holds the label picture of the present classes (PNG, base64), the timing in milliseconds, and
    by class its share of the picture, its presence score and whether it is present.
    """
    result = result.only_present()
    stream = io.BytesIO()
    label_picture(result).save(stream, "PNG", compress_level=3)
    height, width = result.labels.shape
    counts = np.bincount(result.labels.reshape(-1), minlength=len(result.classes) + 1)[1:]
    return JSONResponse(
        {
            "width": width,
            "height": height,
            "labels": base64.b64encode(stream.getvalue()).decode(),
            "classes": [
                {
                    "name": name,
                    "share": float(count / result.labels.size),
                    "presence": round(result.presence.get(name, 1.0), 3),
                    "present": result.present[name],
                }
                for name, count in zip(result.classes, counts, strict=True)
            ],
            "timing": {step: round(spent, 3) for step, spent in result.timing.items()},
        }
    )


def photograph(pixels: Pixels) -> Response:
    """A photograph for display, as JPEG."""
    return _picture(Image.fromarray(pixels), "JPEG", quality=92)


def mask_picture(mask: Mask) -> Response:
    """A mask, white on black, as PNG."""
    return _picture(Image.fromarray(mask), "PNG")


def _picture(image: Image.Image, kind: str, **options: int) -> Response:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return Response(stream.getvalue(), media_type=Image.MIME[kind])
