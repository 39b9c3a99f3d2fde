"""The client of a Triton server with a repository of `hsnet-trt export-triton`."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hsnet_trt.errors import BackendError, HSNetError, InputError
from hsnet_trt.runtime.matching.encode import pair_up
from hsnet_trt.runtime.matching.support_set import check_name
from hsnet_trt.runtime.pictures.images import read_image
from hsnet_trt.runtime.pictures.masks import MaskSource, read_mask
from hsnet_trt.runtime.pictures.result import Segmentation
from hsnet_trt.runtime.pictures.sources import ImageSource
from hsnet_trt.serving.store.store import StoreFullError, UnknownSetError
from hsnet_trt.serving.store.uploads import FORMATS
from hsnet_trt.serving.triton_server.protocol import LARGE, STEPS, set_id

_ERRORS: dict[str, type[HSNetError]] = {
    "StatusCode.NOT_FOUND": UnknownSetError,
    "StatusCode.INVALID_ARGUMENT": InputError,
}


@dataclass(frozen=True)
class Supports:
    """A registered support set, kept by the client so that it can be sent again.

    Attributes:
        key: its id, a hash of its content.
        classes: its classes, in order.
        notes: the server's warnings about its masks.
        shots: class, image file's content and mask file's content of each shot.
    """

    key: str
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    shots: tuple[tuple[str, bytes, bytes], ...] = field(repr=False, default=())


class SegmentationClient:
    """Talks to the model `hsnet` over gRPC. May be used from several threads at once.

        with SegmentationClient("localhost:8001") as client:
            mugs = client.register({"mug": [("mug.jpg", "mug_mask.png")]})
            result = client.segment("kitchen.jpg", mugs)
            result.masks["mug"]

    If the server no longer knows a set (it was restarted, the set expired, another server of the
    same name answers), the set is sent again and the call continues.
    """

    def __init__(
        self,
        url: str = "localhost:8001",
        model: str = "hsnet",
        *,
        timeout: float = 60.0,
        ssl: bool = False,
        **options: Any,
    ) -> None:
        """Create the client; it connects with the first call.

        Args:
            url: the server's host and gRPC port.
            model: the name that `export-triton` gave it.
            timeout: seconds that a call may take, including time in the queue.
            ssl: whether to encrypt the connection.
            options: further arguments of `tritonclient.grpc.InferenceServerClient`, such as
                certificates.

        Raises:
            ModuleNotFoundError: tritonclient is not installed: pip install 'hsnet-trt[triton]'.
        """
        import tritonclient.grpc

        self._grpc = tritonclient.grpc
        self._client = tritonclient.grpc.InferenceServerClient(url, ssl=ssl, **options)
        self._model, self._timeout, self._url = model, timeout, url

    def register(self, classes: Mapping[str, Iterable[tuple[ImageSource, MaskSource]]]) -> Supports:
        """Send support images and masks; the server encodes them once.

        Args:
            classes: by class, its shots: an image and its mask, each as `FewShotSegmenter` takes
                them. Files in the server's formats are sent unchanged, everything else as PNG.

        Raises:
            InputError: an image or mask is invalid.
            StoreFullError: the server has no room for another set.
            BackendError: the server cannot be reached, or failed.
        """
        shots: list[tuple[str, bytes, bytes]] = []
        for name, pairs in classes.items():
            listed = pair_up(check_name(name), *_columns(list(pairs)))
            for number, (image, mask) in enumerate(listed, 1):
                shots.append((name, *_contents(f"shot {number} of {name!r}", image, mask)))
        names = tuple(dict.fromkeys(name for name, _, _ in shots))
        return self._send(Supports(set_id(shots), names, shots=tuple(shots)))

    def segment(
        self, image: ImageSource, supports: Supports, *, large: bool = True
    ) -> Segmentation:
        """Segment one picture.

        Args:
            image: as for `FewShotSegmenter.segment`.
            supports: what `register` returned.
            large: whether to return masks and scores, which are far larger than labels; without
                them, the result's `masks` and `scores` are empty.

        Raises:
            InputError: the picture cannot be read.
            StoreFullError: the server dropped the set, and has no room to register it again.
            BackendError: the server cannot be reached, or failed.
        """
        content = _picture(image)
        wanted = ["labels", "classes", "presence", "present_from", "milliseconds"]
        wanted += LARGE if large else ()
        inputs: dict[str, list[bytes]] = {"set": [supports.key.encode()], "image": [content]}
        try:
            found = self._infer("segment", inputs, wanted)
        except UnknownSetError:
            if not supports.shots:
                raise
            self._send(supports)
            found = self._infer("segment", inputs, wanted)
        names = tuple(_decode(found["classes"]))
        return Segmentation(
            masks=dict(zip(names, found["masks"], strict=True)) if large else {},
            scores=dict(zip(names, found["scores"], strict=True)) if large else {},
            labels=found["labels"],
            classes=names,
            timing=dict(zip(STEPS, map(float, found["milliseconds"]), strict=True)),
            presence=dict(zip(names, map(float, found["presence"]), strict=True)),
            present_from=float(found["present_from"][0]),
        )

    def forget(self, supports: Supports) -> None:
        """Free the set's memory on the server; harmless when repeated."""
        self._infer("forget", {"set": [supports.key.encode()]}, ["status"])

    def status(self) -> dict[str, Any]:
        """The server's network, and how full its store is."""
        found = self._infer("status", {}, ["status"])
        status: dict[str, Any] = json.loads(_decode(found["status"])[0])
        return status

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> SegmentationClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _send(self, supports: Supports) -> Supports:
        found = self._infer(
            "register",
            {
                "class": [name.encode() for name, _, _ in supports.shots],
                "image": [image for _, image, _ in supports.shots],
                "mask": [mask for _, _, mask in supports.shots],
            },
            ["set", "notes"],
        )
        key, notes = _decode(found["set"])[0], tuple(_decode(found["notes"]))
        return Supports(key, supports.classes, notes, supports.shots)

    def _infer(
        self, action: str, inputs: dict[str, list[bytes]], outputs: list[str]
    ) -> dict[str, Any]:
        tensors = []
        for name, values in {"action": [action.encode()], **inputs}.items():
            tensor = self._grpc.InferInput(name, [1, len(values)], "BYTES")
            tensor.set_data_from_numpy(np.array([values], dtype=np.object_))
            tensors.append(tensor)
        requested = [self._grpc.InferRequestedOutput(name) for name in outputs]
        try:
            result = self._client.infer(
                self._model, tensors, outputs=requested, client_timeout=self._timeout
            )
        except self._grpc.InferenceServerException as error:
            raise self._error(error) from error
        found = {name: result.as_numpy(name) for name in outputs}
        missing = [name for name, array in found.items() if array is None]
        if missing:
            raise BackendError(
                f"the server at {self._url} left out a part of its answer",
                expected=", ".join(outputs),
                found=f"nothing for {', '.join(missing)}",
                fix="install the same version of hsnet-trt for the server's Python",
            )
        return {name: array[0] for name, array in found.items()}

    def _error(self, error: Any) -> HSNetError:
        """The server's error, parsed back from its text: summary, then expected, found, fix."""
        status, message = str(error.status()), str(error.message())
        summary, *rows = message.split("\n")
        details = {}
        for row in rows:
            key, _, text = row.strip().partition(":")
            if key in ("expected", "found", "fix"):
                details[key] = text.strip()
        if status == "StatusCode.UNAVAILABLE" and "store" in summary and details:
            return StoreFullError(summary, **details)
        if details:
            return _ERRORS.get(status, BackendError)(summary, **details)
        return BackendError(
            f"the server at {self._url} gave no answer",
            found=f"{status}: {message[:500]}",
            fix="see that it runs, that it is ready, and its log",
        )


def _columns(pairs: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [image for image, _ in pairs], [mask for _, mask in pairs]


def _contents(shot: str, image: Any, mask: Any) -> tuple[bytes, bytes]:
    content = _picture(image, f"the image of {shot}")
    if isinstance(mask, (str, os.PathLike)):
        plain = _as_it_is(Path(mask))
        if plain is not None:
            return content, plain
    pixels = read_image(image, f"the image of {shot}")
    shape = (pixels.shape[0], pixels.shape[1])
    plane = read_mask(mask, shape, f"the mask of {shot}", image)
    return content, _png(Image.fromarray(plane.astype(np.uint8) * 255))


def _picture(image: Any, what: str = "the query image") -> bytes:
    if isinstance(image, (str, os.PathLike)):
        plain = _as_it_is(Path(image))
        if plain is not None:
            return plain
    return _png(Image.fromarray(read_image(image, what)))


def _as_it_is(path: Path) -> bytes | None:
    """The file's content if it is of a format that the server reads."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=FORMATS):
            return content
    except (OSError, ValueError, Image.DecompressionBombError):
        return None  # the reader raises the error, or reads other formats


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _decode(values: Any) -> list[str]:
    return [bytes(value).decode() for value in values]
