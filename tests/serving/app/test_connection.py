"""Connections that are slow for a reason are not ended; those that keep the page waiting are."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the extra `app` is not installed")
import uvicorn

from hsnet_trt.serving.app import connection
from hsnet_trt.serving.app.connection import Connection

LARGE = bytes(12_000_000)  # more than the buffers between the two hold
REQUEST = b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/thinks":
        await asyncio.sleep(1.5)
    body = LARGE if scope["path"] == "/large" else b"done"
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})


def with_server(client: Callable[[int], Awaitable[bytes]]) -> bytes:
    """What the client got."""

    async def run() -> bytes:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            server = uvicorn.Server(
                uvicorn.Config(application, log_level="error", http=Connection, lifespan="off")
            )
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            while not server.started:
                await asyncio.sleep(0.01)
            try:
                async with asyncio.timeout(30):
                    return await client(listening.getsockname()[1])
            finally:
                server.should_exit = True
                await serving

    return asyncio.run(run())


async def read(port: int, sent: bytes, pause: float = 0.0, first: float = 0.0) -> bytes:
    """All that is answered, a little at a time; seconds before the first and after each."""
    loop, heard = asyncio.get_running_loop(), bytearray()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, sent)
        await asyncio.sleep(first)
        while part := await loop.sock_recv(client, 262_144):
            heard += part
            await asyncio.sleep(pause)
    return bytes(heard)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SECONDS", 0.5)


def test_an_answer_that_takes_several_looks_is_waited_for() -> None:
    assert with_server(lambda port: read(port, REQUEST % b"/thinks")).endswith(b"done")


def test_an_answer_that_is_read_slowly_is_sent_whole() -> None:
    heard = with_server(lambda port: read(port, REQUEST % b"/large", 0.02))
    assert len(heard.partition(b"\r\n\r\n")[2]) == len(LARGE)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: loc"])
def test_a_head_that_does_not_come_is_not_waited_for(sent: bytes) -> None:
    assert with_server(lambda port: read(port, sent)) == b""


def test_an_answer_that_is_not_read_is_not_kept() -> None:
    heard = with_server(lambda port: read(port, REQUEST % b"/large", first=3.0))
    assert heard.startswith(b"HTTP/1.1 200") and len(heard) < len(LARGE)
