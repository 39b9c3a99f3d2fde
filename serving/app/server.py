"""The page's HTTP server: its static files and its API.

Files and masks are sent as raw bodies, and parameters are in the URL, so only JSON, pictures and
`.npz` are parsed. Errors are JSON: {"error": {summary, expected, found, fix}}.
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
from hsnet_trt.serving.app.bodies import Bodies
from hsnet_trt.serving.app.messages import (
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
_WORKERS = 2  # threads: one decodes while the other runs the network

_Handler = Callable[[Request], Awaitable[Response]]
_Receiver = Callable[[Request, bytes], Awaitable[Response]]
_Result = TypeVar("_Result")


def make_application(
    workspace: Workspace, given: Mapping[str, list[str]] | None = None
) -> Starlette:
    """The server's application, to be put behind a `Guard`.

    Args:
        workspace: the pictures, shots and sets.
        given: the ids of the initial shots, by class.
    """
    server = _Server(workspace, dict(given or {}))
    asked: dict[str, _Handler] = {
        "about": server.about,
        "pictures/{key}": server.show_picture,
        "sets/{key}/supports.npz": server.save,
    }
    sent: dict[str, _Receiver] = {
        "pictures": server.add_picture,
        "pictures/{key}/mask": server.read_mask,
        "pictures/{key}/cut": server.cut,
        "pictures/{key}/shots": server.add_shot,
        "sets": server.compose,
        "sets/{key}/segment": server.segment,
        "supports": server.load,
        "preview": server.preview,
        "forget/{key}": server.forget,
    }
    routes = [
        Route(f"/api/{path}", server.answering(handler), methods=["GET"])
        for path, handler in asked.items()
    ]
    routes += [
        Route(f"/api/{path}", server.answering(server.receiving(receiver)), methods=["POST"])
        for path, receiver in sent.items()
    ]
    # The page's files are read now, so that no request can open another file.
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
        self._bodies = Bodies(workspace.limits.upload_bytes)
        self._workers: anyio.CapacityLimiter | None = None

    def answering(self, handler: _Handler) -> _Handler:
        """Wrap a handler so that its errors become responses."""

        async def answer(request: Request) -> Response:
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

        return answer

    def receiving(self, receiver: _Receiver) -> _Handler:
        """A handler that passes the request's body to the receiver."""

        async def receive(request: Request) -> Response:
            async with self._bodies.held(request) as body:
                return await receiver(request, body)

        return receive

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

    async def add_picture(self, request: Request, body: bytes) -> Response:
        key, pixels = await self._work(self._workspace.add_picture, body)
        return JSONResponse({"picture": key, "width": pixels.shape[1], "height": pixels.shape[0]})

    async def show_picture(self, request: Request) -> Response:
        return await self._work(photograph, self._workspace.picture(_key(request)))

    async def read_mask(self, request: Request, body: bytes) -> Response:
        return mask_picture(await self._work(self._workspace.read_mask, _key(request), body))

    async def cut(self, request: Request, body: bytes) -> Response:
        box = request.query_params.get("box")
        if box is None:
            return mask_picture(await self._work(self._workspace.cut_scribble, _key(request), body))
        return mask_picture(await self._work(self._workspace.cut_box, _key(request), read_box(box)))

    async def add_shot(self, request: Request, body: bytes) -> Response:
        key, notes = await self._work(self._workspace.add_shot, _key(request), body)
        return JSONResponse({"shot": key, "notes": notes})

    async def compose(self, request: Request, body: bytes) -> Response:
        classes = read_classes(body)
        return JSONResponse({"set": await self._work(self._workspace.compose, classes)})

    async def segment(self, request: Request, body: bytes) -> Response:
        key = _key(request)
        return await self._work(lambda: segmented(self._workspace.segment(key, body)))

    async def save(self, request: Request) -> Response:
        content = await self._work(self._workspace.save, _key(request))
        headers = {"content-disposition": 'attachment; filename="supports.npz"'}
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def load(self, request: Request, body: bytes) -> Response:
        return JSONResponse({"classes": named(await self._work(self._workspace.load, body))})

    async def preview(self, request: Request, body: bytes) -> Response:
        return await self._work(lambda: photograph(self._workspace.preview(body)))

    async def forget(self, request: Request, body: bytes) -> Response:
        return JSONResponse({"forgotten": self._workspace.forget(_key(request))})

    async def _work(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Run a slow function in a worker thread, at most two at a time."""
        if self._workers is None:
            self._workers = anyio.CapacityLimiter(_WORKERS)
        answer: _Result = await anyio.to_thread.run_sync(
            function, *arguments, limiter=self._workers
        )
        return answer


def _key(request: Request) -> str:
    return str(request.path_params["key"])
