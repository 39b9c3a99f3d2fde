"""Serve the page: open the bundle, bind the address, run until stopped."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import warnings
from collections.abc import Callable
from pathlib import Path

import uvicorn

from hsnet_trt.errors import HSNetWarning, InputError
from hsnet_trt.runtime.network import Network
from hsnet_trt.serving.app.connection import Connection
from hsnet_trt.serving.app.guard import Guard
from hsnet_trt.serving.app.server import make_application
from hsnet_trt.serving.app.supports import read_supports
from hsnet_trt.serving.app.workspace import PageLimits, Workspace


def serve(
    network: Network,
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    limits: PageLimits | None = None,
    supports: str | os.PathLike[str] | None = None,
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page until the process is interrupted.

    Unless the address is a loopback one, a browser must send a token, which is part of the URL
    given to `on_ready`: anyone with that URL may use the page.

    Args:
        network: segments the pictures.
        host: the address to listen on; "0.0.0.0" for all of this machine's.
        port: 0 for any free one.
        limits: limits on uploads and memory.
        supports: a file of `save_supports` with initial classes.
        on_ready: called with the page's URL once it can be opened.

    Raises:
        InputError: the address cannot be used, or the supports cannot be read.
    """
    workspace = Workspace(network, limits)
    given = {} if supports is None else workspace.give(read_supports(network, _read(supports)))
    warnings.simplefilter("ignore", HSNetWarning)  # the page shows them as notes
    listening = bind(host, port)
    token = None if is_loopback(listening) else secrets.token_urlsafe(16)
    names = frozenset({host.lower(), socket.gethostname().lower()})
    application = Guard(make_application(workspace, given), names, token)
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=128,
            timeout_graceful_shutdown=3,
            ws="none",
            http=Connection,
        )
    )
    on_ready(page_address(listening, host, token))
    with listening:
        server.run(sockets=[listening])


def is_loopback(listening: socket.socket) -> bool:
    """Whether only this machine can reach the socket."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens at that address.

    Raises:
        InputError: another program has the port, or this machine has no such address.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        raise InputError(
            f"the page cannot be served at {host}, port {port}",
            found=error.strerror or error,
            fix="choose another --port (0 for any that is free), or another --host",
        ) from error
    return listening


def page_address(listening: socket.socket, host: str, token: str | None) -> str:
    """The page's URL, with the token if there is one."""
    shown = f"[{host}]" if ":" in host else host
    if host in ("0.0.0.0", "::", ""):
        shown = socket.gethostname()
    query = "" if token is None else f"?token={token}"
    return f"http://{shown}:{listening.getsockname()[1]}/{query}"


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"there is no support set at {os.fspath(path)}",
            found=error.strerror,
            fix="check the path, and who may read it",
        ) from error
