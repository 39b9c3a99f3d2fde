"""The Triton model `hsnet`: keeps support sets, and segments pictures with them.

Triton runs it in a separate process (Python backend); the networks are other models of the same
server. `protocol` describes the requests.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hsnet_trt.errors import BackendError, HSNetError, HSNetWarning, InputError
from hsnet_trt.runtime.bundle import MANIFEST
from hsnet_trt.runtime.bundle.manifest import Manifest, PackedLevel
from hsnet_trt.runtime.matching.presence import Objects, best_matches, presence, together
from hsnet_trt.runtime.matching.support_set import MOST_CLASSES, check_name
from hsnet_trt.runtime.pictures.guided_filter import refine
from hsnet_trt.runtime.pictures.images import Pixels, read_image
from hsnet_trt.runtime.pictures.masks import read_mask
from hsnet_trt.runtime.pictures.postprocess import segment_logits
from hsnet_trt.runtime.pictures.preprocess import (
    OUTSIDE,
    Floats,
    Placement,
    network_input,
    network_mask,
)
from hsnet_trt.serving.store.store import StoreFullError, SupportStore, UnknownSetError
from hsnet_trt.serving.store.uploads import check_picture
from hsnet_trt.serving.triton_server.device_copies import DeviceCopies
from hsnet_trt.serving.triton_server.networks import Held, Networks, Shots
from hsnet_trt.serving.triton_server.protocol import ACTIONS, LARGE, OUTPUTS, set_id
from hsnet_trt.serving.triton_server.request import Request

_log = logging.getLogger("hsnet_trt")


@dataclass(frozen=True)
class _Set:
    """A registered support set."""

    classes: tuple[str, ...]
    shots: tuple[int, ...]  # of each class
    encoded: Shots
    objects: Objects
    notes: tuple[str, ...]


class TritonPythonModel:
    """The class that Triton's Python backend loads and calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the configuration and the network's manifest.

        Raises:
            BackendError: this Triton cannot pass arrays of the installed NumPy.
            BundleError: the manifest cannot be read.
        """
        self._pb = importlib.import_module("triton_python_backend_utils")
        check_numpy(self._pb)
        warnings.simplefilter("ignore", HSNetWarning)  # clients get them as notes
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        version = args["model_version"]
        folder = Path(args["model_repository"], version)
        self._manifest = Manifest.from_json((folder / MANIFEST).read_text(encoding="utf-8"))
        self._size = (int(parameters["height"]), int(parameters["width"]))
        self._shot_bytes = int(parameters["bytes_per_shot"])
        self._supports = int(parameters["supports"])
        self._piece = min(int(parameters[key]) for key in ("images", "shots", "supports"))
        self._most_pixels = int(float(parameters["most_megapixels"]) * 1e6)
        types = json.loads(parameters["types"])
        packing = [
            PackedLevel((p["grid"][0], p["grid"][1]), p["kernel"], p["stride"])
            for p in json.loads(parameters["packing"])
        ]
        copies = DeviceCopies(int(float(parameters.get("device_megabytes", 0)) * 1e6))
        self._networks = Networks(
            self._pb, args["model_name"], int(version), types, packing, copies
        )
        self._store: SupportStore[_Set] = SupportStore(
            int(float(parameters["store_megabytes"]) * 1e6), float(parameters["idle_seconds"])
        )

    async def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch of requests concurrently and independently of each other."""
        return list(await asyncio.gather(*[self._answer(request) for request in requests]))

    def finalize(self) -> None:
        """Nothing to free: the store ends with the process."""

    async def _answer(self, request: Any) -> Any:
        pb = self._pb
        codes = pb.TritonError
        try:
            outputs = await self._do(Request(pb, request), set(request.requested_output_names()))
        except UnknownSetError as error:
            return self._refusal(error, codes.NOT_FOUND)
        except StoreFullError as error:
            return self._refusal(error, codes.UNAVAILABLE)
        except InputError as error:
            return self._refusal(error, codes.INVALID_ARG)
        except HSNetError as error:
            _log.warning("%s", error)
            return self._refusal(error, codes.INTERNAL)
        except Exception as error:  # noqa: BLE001  the server keeps serving the others
            _log.exception("a request failed")
            return self._refusal(
                BackendError("the server failed", found=f"{type(error).__name__}: {error}"),
                codes.INTERNAL,
            )
        return pb.InferenceResponse([pb.Tensor(name, value) for name, value in outputs.items()])

    def _refusal(self, error: HSNetError, code: Any) -> Any:
        return self._pb.InferenceResponse([], self._pb.TritonError(str(error), code))

    async def _do(self, request: Request, wanted: set[str]) -> dict[str, Any]:
        action = request.one("action")
        if action == "segment":
            outputs = await self._segment(request, wanted)
        elif action == "register":
            outputs = await self._register(request)
        elif action == "forget":
            dropped = self._store.forget(request.one("set"))
            outputs = {"status": _texts(["forgotten" if dropped else "there was none"])}
        elif action == "status":
            outputs = {"status": _texts([json.dumps(self._status())])}
        else:
            raise InputError(
                "there is no such action", expected=", ".join(ACTIONS), found=repr(action[:40])
            )
        return {name: value[None] for name, value in outputs.items() if name in wanted}

    async def _register(self, request: Request) -> dict[str, Any]:
        classes = [check_name(name) for name in request.texts("class")]
        images, masks = request.contents("image"), request.contents("mask")
        if not len(classes) == len(images) == len(masks) or not classes:
            raise InputError(
                "the supports do not pair up",
                expected="as many classes as images and masks, at least one of each",
                found=f"{len(classes)} classes, {len(images)} images, {len(masks)} masks",
            )
        key = set_id(zip(classes, images, masks, strict=True))
        names = list(dict.fromkeys(classes))
        if len(names) > MOST_CLASSES:
            raise InputError(
                "there are too many classes", expected=f"at most {MOST_CLASSES}", found=len(names)
            )
        if key not in self._store:
            with self._store.room(self._shot_bytes * len(classes)) as put:
                # Class after class, since votes are counted in that order.
                order = sorted(range(len(classes)), key=lambda i: names.index(classes[i]))
                titles = [
                    f"shot {classes[: i + 1].count(name)} of {name!r}"
                    for i, name in enumerate(classes)
                ]
                shots = [(titles[i], images[i], masks[i]) for i in order]
                pieces, objects, notes = [], [], []
                for first in range(0, len(shots), self._piece):
                    part = shots[first : first + self._piece]
                    batch, planes, warned = await asyncio.to_thread(self._prepare, part)
                    encoded, shown = await self._networks.encode(batch, planes)
                    pieces.append(encoded)
                    objects.append(shown)
                    notes += warned
                counts = tuple(classes.count(name) for name in names)
                arranged = await asyncio.to_thread(self._networks.arrange, pieces, self._supports)
                kept = _Set(tuple(names), counts, arranged, together(objects), tuple(notes))
                put(key, kept, arranged.bytes)
        kept = self._store.get(key)
        return {"set": _texts([key]), "classes": _texts(names), "notes": _texts(kept.notes)}

    async def _segment(self, request: Request, wanted: set[str]) -> dict[str, Any]:
        supports = self._store.get(request.one("set"))
        images = request.contents("image")
        if len(images) != 1:
            raise InputError("segment takes one picture a request", found=f"{len(images)}")
        clock = [time.perf_counter()]
        batch, placement = await asyncio.to_thread(self._query, images[0])
        clock.append(time.perf_counter())
        features = await self._networks.features(batch)
        clock.append(time.perf_counter())
        logits = await self._networks.match(features, supports.encoded)
        here = await self._presence(features, supports) if "presence" in wanted else []
        clock.append(time.perf_counter())
        masks, scores, labels = await asyncio.to_thread(
            self._draw, logits, batch[0], supports.shots, placement
        )
        clock.append(time.perf_counter())
        large = {
            "masks": lambda: np.stack(masks),
            "scores": lambda: np.stack(scores),
        }
        return {
            "labels": labels,
            "classes": _texts(supports.classes),
            "presence": np.array(here, np.float64),
            "present_from": np.array([self._manifest.present_from], np.float64),
            "milliseconds": np.diff(clock).astype(np.float32) * np.float32(1000),
            **{name: large[name]() for name in LARGE if name in wanted},
        }

    def _draw(
        self, logits: Floats, picture: Floats, shots: Sequence[int], placement: Placement
    ) -> Any:
        if self._manifest.refine:
            logits = refine(logits, picture, self._manifest.preprocessing)
        return segment_logits(logits, shots, placement)

    async def _presence(self, features: Held, supports: _Set) -> list[float]:
        """The presence score of each class."""
        objects = supports.objects
        level4 = await self._networks.level4(features, self._size)
        scores = objects.scores(await asyncio.to_thread(best_matches, level4, objects.vectors))
        return presence(scores, objects.counts, supports.shots)

    def _query(self, content: bytes) -> tuple[Floats, Any]:
        pixels = self._picture(content, "the query image")
        batch, placements = network_input([pixels], self._size, self._manifest.preprocessing)
        return batch, placements[0]

    def _prepare(self, shots: list[tuple[str, bytes, bytes]]) -> tuple[Floats, Floats, list[str]]:
        """Read shots, each with its name, image and mask, as a segmenter does."""
        pixels, masks, notes = [], [], []
        for what, image, mask in shots:
            pixels.append(self._picture(image, f"the image of {what}"))
            self._check(mask, f"the mask of {what}")
            shape = (pixels[-1].shape[0], pixels[-1].shape[1])
            masks.append(read_mask(mask, shape, f"the mask of {what}", image))
            if masks[-1].all():
                notes.append(f"the mask of {what} covers its whole image")
        batch, placements = network_input(pixels, self._size, self._manifest.preprocessing)
        outside = OUTSIDE if self._networks.contrast else 0
        planes = [network_mask(m, p, outside) for m, p in zip(masks, placements, strict=True)]
        for (what, _, _), plane in zip(shots, planes, strict=True):
            if not (plane > 0).any():
                raise InputError(
                    f"the object of {what} is too small",
                    expected=f"at least one pixel of it left at {self._size[0]} x {self._size[1]}",
                    found="none, once the mask is resized",
                    fix="crop the support image and its mask closer to the object",
                )
        return batch, np.stack(planes), notes

    def _picture(self, content: bytes, what: str) -> Pixels:
        self._check(content, what)
        return read_image(content, what)

    def _check(self, content: bytes, what: str) -> None:
        fix = "scale it down first, or raise most_megapixels in config.pbtxt"
        check_picture(content, what, self._most_pixels, fix)

    def _status(self) -> dict[str, Any]:
        model = self._manifest.model
        return {
            "backbone": model.backbone,
            "trained": model.trained,
            "weights_sha256": model.weights_sha256,
            "size": self._size,
            "sets": len(self._store),
            "used_bytes": self._store.used_bytes,
            "most_bytes": self._store.most_bytes,
            "bytes_per_shot": self._shot_bytes,
            "idle_seconds": self._store.idle_seconds,
        }


def check_numpy(pb: Any) -> None:
    """Check that arrays pass unchanged through Triton's Python backend.

    Raises:
        BackendError: they do not. Python backends up to at least 24.10 were built for NumPy 1, and
            pass arrays of NumPy 2 with wrong shapes.
    """
    array = np.arange(3, dtype=np.float32)
    try:
        back = np.asarray(pb.Tensor("probe", array).as_numpy())
        right = back.shape == array.shape and bool((back == array).all())
    except Exception:  # noqa: BLE001  whatever it is, arrays do not pass
        right = False
    if not right:
        raise BackendError(
            "this Triton's Python backend cannot pass arrays of the NumPy that is installed",
            expected="an array comes back as it was",
            found=f"NumPy {np.__version__}",
            fix="install the older one for the server's Python: python -m pip install 'numpy<2'",
        )


def _texts(values: Any) -> Any:
    return np.array([str(value).encode() for value in values], dtype=np.object_)


assert set(LARGE) <= set(OUTPUTS)
