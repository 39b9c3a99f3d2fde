"""The page's server: its files, and what they ask for, over HTTP.

Files and masks travel as raw bodies, so nothing is parsed but JSON, pictures and `.npz`; the rest
of a request is in its address. An error is JSON: {"error": {summary, expected, found, fix}}.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import hsnet_trt
from hsnet_trt.errors import BackendError, HSNetError, InputError
from hsnet_trt.runtime.images import Pixels
from hsnet_trt.runtime.masks import Mask
from hsnet_trt.runtime.overlay import class_colour, label_picture
from hsnet_trt.serving.app_desk import Desk
from hsnet_trt.serving.support_store import StoreFullError, UnknownSetError

_log = logging.getLogger("hsnet_trt")
PAGE = Path(__file__).parent / "page"
_BODY_SECONDS = 120.0  # for a body to arrive
_UNDER_WAY = 16  # requests with a body that are held at once
_WORKERS = 2  # one decodes while another is in the network

_Handler = Callable[[Request], Awaitable[Response]]
_Result = TypeVar("_Result")


class _TooLarge(InputError):
    """A body of more bytes than are taken."""


class _Busy(HSNetError):
    """Too much is under way."""


def make_application(desk: Desk, given: Mapping[str, list[str]] | None = None) -> Starlette:
    """The server's application, to be put behind a `Guard`.

    Args:
        desk: what it works on.
        given: the ids of shots that are there from the start, by class.
    """
    server = _Server(desk, dict(given or {}))
    api: dict[str, tuple[str, _Handler]] = {
        "about": ("GET", server.about),
        "pictures": ("POST", server.add_picture),
        "pictures/{key}": ("GET", server.show_picture),
        "pictures/{key}/mask": ("POST", server.read_mask),
        "pictures/{key}/cut": ("POST", server.cut),
        "pictures/{key}/shots": ("POST", server.add_shot),
        "sets": ("POST", server.compose),
        "sets/{key}/segment": ("POST", server.segment),
        "sets/{key}/supports.npz": ("GET", server.save),
        "supports": ("POST", server.load),
        "preview": ("POST", server.preview),
        "forget/{key}": ("POST", server.forget),
    }
    routes = [
        Route(f"/api/{path}", server.answering(handler), methods=[method])
        for path, (method, handler) in api.items()
    ]
    # The page's files, read now: whatever is asked for later, no other file is opened.
    for file in sorted(PAGE.iterdir()):
        content, kind = file.read_bytes(), mimetypes.guess_type(file.name)[0]
        path = "/" if file.name == "index.html" else f"/{file.name}"
        routes.append(Route(path, _serve(content, kind or "application/octet-stream")))
    return Starlette(routes=routes)


def _serve(content: bytes, kind: str) -> _Handler:
    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


class _Server:
    def __init__(self, desk: Desk, given: dict[str, list[str]]) -> None:
        self._desk, self._given = desk, given
        self._under_way = 0
        self._workers: anyio.CapacityLimiter | None = None

    def answering(self, handler: _Handler) -> _Handler:
        """The handler, its errors put into words."""

        async def answer(request: Request) -> Response:
            sends = request.method == "POST"
            if sends and self._under_way >= _UNDER_WAY:
                return _refusal(_Busy("the server is busy", fix="try again in a moment"))
            self._under_way += sends
            try:
                return await handler(request)
            except HSNetError as error:
                if not isinstance(error, InputError):
                    _log.warning("%s", error)
                return _refusal(error)
            except ClientDisconnect:
                return Response(status_code=400)
            except HTTPException:
                raise
            except Exception:  # noqa: BLE001  the server goes on for the others
                _log.exception("a request failed")
                return _refusal(BackendError("the server failed", fix="see its terminal"))
            finally:
                self._under_way -= sends

        return answer

    async def about(self, request: Request) -> Response:
        network, limits = self._desk.network, self._desk.limits
        model = network.bundle.manifest.model
        return JSONResponse(
            {
                "version": hsnet_trt.__version__,
                "backbone": model.backbone,
                "trained": model.trained,
                "size": network.size,
                "precision": network.runner.precision,
                "backend": network.runner.backend,
                "reason": network.reason,
                "device": network.runner.device,
                "upload_bytes": limits.upload_bytes,
                "shots": limits.shots,
                "colours": [_css(class_colour(index)) for index in range(255)],
                "classes": _named(self._given),
            }
        )

    async def add_picture(self, request: Request) -> Response:
        key, pixels = await self._work(self._desk.add_picture, await self._body(request))
        return JSONResponse({"picture": key, "width": pixels.shape[1], "height": pixels.shape[0]})

    async def show_picture(self, request: Request) -> Response:
        return await self._work(_jpeg, self._desk.picture(_key(request)))

    async def read_mask(self, request: Request) -> Response:
        body = await self._body(request)
        return _png(await self._work(self._desk.read_mask, _key(request), body))

    async def cut(self, request: Request) -> Response:
        box = request.query_params.get("box")
        body = await self._body(request)
        if box is None:
            return _png(await self._work(self._desk.cut_scribble, _key(request), body))
        return _png(await self._work(self._desk.cut_box, _key(request), _box(box)))

    async def add_shot(self, request: Request) -> Response:
        body = await self._body(request)
        key, notes = await self._work(self._desk.add_shot, _key(request), body)
        return JSONResponse({"shot": key, "notes": notes})

    async def compose(self, request: Request) -> Response:
        classes = _classes(await self._body(request))
        return JSONResponse({"set": await self._work(self._desk.compose, classes)})

    async def segment(self, request: Request) -> Response:
        body = await self._body(request)
        result = await self._work(self._desk.segment, _key(request), body)
        stream = io.BytesIO()
        await self._work(lambda: label_picture(result).save(stream, "PNG", compress_level=3))
        height, width = result.labels.shape
        shares = np.bincount(result.labels.reshape(-1), minlength=len(result.classes) + 1)
        return JSONResponse(
            {
                "width": width,
                "height": height,
                "labels": base64.b64encode(stream.getvalue()).decode(),
                "classes": [
                    {"name": name, "share": float(count / result.labels.size)}
                    for name, count in zip(result.classes, shares[1:], strict=True)
                ],
                "timing": {step: round(spent, 3) for step, spent in result.timing.items()},
            }
        )

    async def save(self, request: Request) -> Response:
        content = await self._work(self._desk.save, _key(request))
        headers = {"content-disposition": 'attachment; filename="supports.npz"'}
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def load(self, request: Request) -> Response:
        body = await self._body(request)
        return JSONResponse({"classes": _named(await self._work(self._desk.load, body))})

    async def preview(self, request: Request) -> Response:
        body = await self._body(request)
        return await self._work(lambda: _jpeg(self._desk.preview(body)))

    async def forget(self, request: Request) -> Response:
        return JSONResponse({"forgotten": self._desk.forget(_key(request))})

    async def _work(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Run what takes a while in another thread, few at a time."""
        if self._workers is None:
            self._workers = anyio.CapacityLimiter(_WORKERS)
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._workers)

    async def _body(self, request: Request) -> bytes:
        """All that was sent, unless it is too much."""
        most = self._desk.limits.upload_bytes
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > most:
            raise _too_large(int(declared), most)
        parts, size = [], 0
        try:
            with anyio.fail_after(_BODY_SECONDS):
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise _too_large(size, most)
                    parts.append(part)
        except TimeoutError as error:
            raise InputError(
                "the file did not arrive", expected=f"all of it within {_BODY_SECONDS:g} s"
            ) from error
        return b"".join(parts)


def _refusal(error: HSNetError) -> Response:
    status = 500
    for kind, code in (
        (_TooLarge, 413),
        (UnknownSetError, 404),
        (InputError, 400),
        (StoreFullError, 503),
        (_Busy, 503),
    ):
        if isinstance(error, kind):
            status = code
            break
    said = {
        "summary": error.summary,
        "expected": error.expected,
        "found": error.found,
        "fix": error.fix,
    }
    return JSONResponse({"error": said}, status_code=status)


def _key(request: Request) -> str:
    return str(request.path_params["key"])


def _too_large(found: int, most: int) -> _TooLarge:
    return _TooLarge(
        "the file is too large",
        expected=f"{most / 1e6:g} MB at most",
        found=f"{found / 1e6:.1f} MB or more",
        fix="scale the picture down, or start the page with a larger --max-upload-mb",
    )


def _classes(body: bytes) -> list[tuple[str, list[str]]]:
    """[[name, [shot, ...]], ...] of a request's JSON."""
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


def _box(text: str) -> tuple[int, int, int, int]:
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            "the box is not understood", expected="x,y,width,height", found=text[:40]
        ) from error
    return x, y, width, height


def _named(classes: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    return [{"name": name, "shots": keys} for name, keys in classes.items()]


def _css(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _jpeg(pixels: Pixels) -> Response:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=92)
    return Response(stream.getvalue(), media_type="image/jpeg")


def _png(mask: Mask) -> Response:
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return Response(stream.getvalue(), media_type="image/png")
