"""The page's server: its files, and what they ask for, over HTTP.

Files and masks travel as raw bodies, so nothing is parsed but JSON, pictures and `.npz`; the rest
of a request is in its address. An error is JSON: {"error": {summary, expected, found, fix}}.
"""

from __future__ import annotations

import logging
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import hsnet_trt
from hsnet_trt.errors import BackendError, HSNetError, InputError
from hsnet_trt.runtime.pictures.overlay import class_colour
from hsnet_trt.serving.app.messages import (
    BusyError,
    TooLargeError,
    css,
    mask_picture,
    named,
    photograph,
    read_box,
    read_classes,
    refusal,
    segmented,
)
from hsnet_trt.serving.app.workspace import Workspace

_log = logging.getLogger("hsnet_trt")
PAGE = Path(__file__).parent / "page"
_BODY_SECONDS = 120.0  # for a body to arrive
_UNDER_WAY = 16  # requests with a body that are held at once
_WORKERS = 2  # one decodes while another is in the network

_Handler = Callable[[Request], Awaitable[Response]]
_Result = TypeVar("_Result")


def make_application(
    workspace: Workspace, given: Mapping[str, list[str]] | None = None
) -> Starlette:
    """The server's application, to be put behind a `Guard`.

    Args:
        workspace: what it works on.
        given: the ids of shots that are there from the start, by class.
    """
    server = _Server(workspace, dict(given or {}))
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
    def __init__(self, workspace: Workspace, given: dict[str, list[str]]) -> None:
        self._workspace, self._given = workspace, given
        self._under_way = 0
        self._workers: anyio.CapacityLimiter | None = None

    def answering(self, handler: _Handler) -> _Handler:
        """The handler, its errors put into words."""

        async def answer(request: Request) -> Response:
            sends = request.method == "POST"
            if sends and self._under_way >= _UNDER_WAY:
                return refusal(BusyError("the server is busy", fix="try again in a moment"))
            self._under_way += sends
            try:
                return await handler(request)
            except HSNetError as error:
                if not isinstance(error, InputError):
                    _log.warning("%s", error)
                return refusal(error)
            except ClientDisconnect:
                return Response(status_code=400)
            except HTTPException:
                raise
            except Exception:  # noqa: BLE001  the server keeps serving the others
                _log.exception("a request failed")
                return refusal(BackendError("the server failed", fix="see its terminal"))
            finally:
                self._under_way -= sends

        return answer

    async def about(self, request: Request) -> Response:
        network, limits = self._workspace.network, self._workspace.limits
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
                "colours": [css(class_colour(index)) for index in range(255)],
                "classes": named(self._given),
            }
        )

    async def add_picture(self, request: Request) -> Response:
        key, pixels = await self._work(self._workspace.add_picture, await self._body(request))
        return JSONResponse({"picture": key, "width": pixels.shape[1], "height": pixels.shape[0]})

    async def show_picture(self, request: Request) -> Response:
        return await self._work(photograph, self._workspace.picture(_key(request)))

    async def read_mask(self, request: Request) -> Response:
        body = await self._body(request)
        return mask_picture(await self._work(self._workspace.read_mask, _key(request), body))

    async def cut(self, request: Request) -> Response:
        box = request.query_params.get("box")
        body = await self._body(request)
        if box is None:
            return mask_picture(await self._work(self._workspace.cut_scribble, _key(request), body))
        return mask_picture(await self._work(self._workspace.cut_box, _key(request), read_box(box)))

    async def add_shot(self, request: Request) -> Response:
        body = await self._body(request)
        key, notes = await self._work(self._workspace.add_shot, _key(request), body)
        return JSONResponse({"shot": key, "notes": notes})

    async def compose(self, request: Request) -> Response:
        classes = read_classes(await self._body(request))
        return JSONResponse({"set": await self._work(self._workspace.compose, classes)})

    async def segment(self, request: Request) -> Response:
        body = await self._body(request)
        key = _key(request)
        return await self._work(lambda: segmented(self._workspace.segment(key, body)))

    async def save(self, request: Request) -> Response:
        content = await self._work(self._workspace.save, _key(request))
        headers = {"content-disposition": 'attachment; filename="supports.npz"'}
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def load(self, request: Request) -> Response:
        body = await self._body(request)
        return JSONResponse({"classes": named(await self._work(self._workspace.load, body))})

    async def preview(self, request: Request) -> Response:
        body = await self._body(request)
        return await self._work(lambda: photograph(self._workspace.preview(body)))

    async def forget(self, request: Request) -> Response:
        return JSONResponse({"forgotten": self._workspace.forget(_key(request))})

    async def _work(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Run what takes a while in another thread, few at a time."""
        if self._workers is None:
            self._workers = anyio.CapacityLimiter(_WORKERS)
        answer: _Result = await anyio.to_thread.run_sync(
            function, *arguments, limiter=self._workers
        )
        return answer

    async def _body(self, request: Request) -> bytes:
        """All that was sent, unless it is too much."""
        most = self._workspace.limits.upload_bytes
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


def _key(request: Request) -> str:
    return str(request.path_params["key"])


def _too_large(found: int, most: int) -> TooLargeError:
    return TooLargeError(
        "the file is too large",
        expected=f"{most / 1e6:g} MB at most",
        found=f"{found / 1e6:.1f} MB or more",
        fix="scale the picture down, or start the page with a larger --max-upload-mb",
    )
