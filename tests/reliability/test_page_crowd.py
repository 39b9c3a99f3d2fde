"""The page under 64 clients that drip, send too much, ask for others or go away."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import SIZE
from helpers.pictures.scenes import RED, scene
from helpers.places import ROOT
from PIL import Image

pytest.importorskip("starlette", reason="the extra `app` is not installed")

PLACE = (slice(20, 70), slice(10, 50))
PROC = Path("/proc")
UPLOAD = 1_000_000  # bytes that the page takes
# Whole bodies (16 at most), what is unread of an answer, and Python's own of 64 connections.
BOUND = 32 * 2**20
EACH = 8  # clients of each of the eight kinds
DEADLINE = 32.0  # seconds for the server to end what drips; twice the time between two looks is 20


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


@contextmanager
def page(folder: Path) -> Iterator[tuple[int, int]]:
    """The process and port of a page on a bundle that segments by colour."""
    bundle = make_bundle(folder / "bundle")
    command = [sys.executable, "-m", "hsnet_trt.cli.main", "app", str(bundle), "--port", "0"]
    with (
        (folder / "said").open("w") as said,
        subprocess.Popen(
            [*command, "--max-upload-mb", str(UPLOAD / 1e6)],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as process,
    ):
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address, (folder / "said").read_text()
            yield process.pid, int(address.rstrip("/").rpartition(":")[2])
        finally:
            process.terminate()
            process.wait(timeout=20)


def memory(pid: int) -> int:
    """Resident bytes."""
    return int((PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def opened(pid: int) -> tuple[int, int]:
    """File descriptors and threads."""
    return len(list((PROC / str(pid) / "fd").iterdir())), len(
        list((PROC / str(pid) / "task").iterdir())
    )


def use(port: int) -> np.ndarray:
    """All that a good client does: a picture, a shot of it, a set, an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(path: str, body: bytes) -> dict:
        connection.request("POST", f"/api/{path}", body)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return json.loads(content)

    mask = np.zeros(SIZE, bool)
    mask[PLACE] = True
    support = png(scene(SIZE, [(RED, PLACE)]))
    picture = ask("pictures", support)["picture"]
    shot = ask(f"pictures/{picture}/shots", png(mask))["shot"]
    sent = json.dumps({"classes": [{"name": "red", "shots": [shot]}]}).encode()
    key = ask("sets", sent)["set"]
    labels = ask(f"sets/{key}/segment", support)["labels"]
    for kept in (picture, shot, key):
        ask(f"forget/{kept}", b"")
    connection.close()
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(labels))))


class Crowd:
    """Bad clients, and what they were answered, by kind."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard: defaultdict[str, list[bytes]] = defaultdict(list)
        self.over = False

    def head(self, length: int | None, **headers: str) -> bytes:
        sent = {"Host": f"127.0.0.1:{self.port}", **headers}
        sent |= {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": length}
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        return f"POST /api/pictures HTTP/1.1\r\n{lines}\r\n".encode()

    async def slow(self, kind: str, first: bytes, drop: bytes) -> None:
        """Send a little more every now and then, until the server ends it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        # A body that drips is answered; whoever drips on after an answer is another kind.
        hearing = reader.read(65536) if kind == "body drips" else self.hear(reader)
        heard = asyncio.ensure_future(hearing)
        writer.write(first)
        while not heard.done():
            if drop and not writer.is_closing():
                writer.write(drop)
            await asyncio.wait([heard], timeout=0.5)
        self.heard[kind].append(heard.result())
        writer.close()

    async def unread(self, kind: str) -> None:
        """Ask for very much and read nothing, until the server ends it."""
        asked = b"GET /editor.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", self.port))
            try:
                await loop.sock_sendall(client, asked * 1000)
                while True:
                    await asyncio.sleep(0.5)
                    await loop.sock_sendall(client, b"G")
            except (ConnectionResetError, BrokenPipeError):
                self.heard[kind].append(b"")

    async def hasty(self, kind: str, request: bytes, body: bytes, *, stays: bool = True) -> None:
        """Send all of it, or go away in the middle; again and again."""
        while not self.over:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(request)
            writer.write(body)
            if stays:
                writer.write_eof()
                self.heard[kind].append(await self.hear(reader))
            else:
                await asyncio.sleep(0.05)
                writer.transport.abort()
            writer.close()
            await asyncio.sleep(1.0)

    async def hear(self, reader: asyncio.StreamReader) -> bytes:
        heard = b""
        try:
            while part := await reader.read(65536):
                heard += part
        except ConnectionResetError:
            pass
        return heard

    async def come(self) -> None:
        """All at once; it ends when the server has ended every slow one."""
        begun = f"POST /api/pictures HTTP/1.1\r\nHost: localhost:{self.port}\r\nX-Long: ".encode()
        large = bytes(3 * UPLOAD)
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(large), large)
        slow, hasty = [], []
        for number in range(EACH):
            slow += [
                self.slow("silent", b"", b""),
                self.slow("head drips", begun, b"a"),
                self.slow("body drips", self.head(UPLOAD // 2), b"a"),
                self.slow("drips on", self.head(2 * UPLOAD), b"a"),
                self.unread("unread"),
            ]
            hasty.append(
                self.hasty("too long", self.head(len(large)), large)
                if number % 2
                else self.hasty("too long, chunked", self.head(None), chunked)
            )
            hasty.append(
                self.hasty("host", self.head(9, Host="evil.example"), b"x" * 9)
                if number % 2
                else self.hasty("origin", self.head(9, Origin="http://evil.example"), b"x" * 9)
            )
            half = bytes(UPLOAD // 2)
            hasty.append(self.hasty("gone", self.head(UPLOAD), half, stays=False))
        assert len(slow) + len(hasty) == 64
        going = [asyncio.create_task(one) for one in hasty]
        try:
            async with asyncio.timeout(DEADLINE):
                await asyncio.gather(*slow)
        finally:
            self.over = True
        await asyncio.gather(*going)


@pytest.mark.skipif(not PROC.is_dir(), reason="no /proc to read the process's memory from")
def test_the_page_under_64_clients(tmp_path: Path) -> None:
    with page(tmp_path) as (pid, port):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(use, [port] * 4))
        alone = use(port)
        assert (alone == 1).any()
        before, (files, threads) = memory(pid), opened(pid)
        crowd, served, most, over = Crowd(port), [], [before], threading.Event()

        def good() -> None:
            while not over.wait(0.3):
                served.append(use(port))

        def watch() -> None:
            while not over.wait(0.05):
                most.append(memory(pid))

        with ThreadPoolExecutor() as pool:
            others = [pool.submit(one) for one in (good, good, watch)]
            try:
                asyncio.run(crowd.come())
            finally:
                over.set()
            for one in others:
                one.result()
        assert len(served) >= 10 and all((one == alone).all() for one in served)
        end = time.monotonic() + 25
        while opened(pid)[0] > files and time.monotonic() < end:
            time.sleep(0.2)
        left = opened(pid)
        assert left[0] <= files and left[1] <= threads, (left, files, threads)
        assert max(most) - before < BOUND
        use(port)
    kinds = {
        kind: Counter(one[9:12].decode() for one in heard) for kind, heard in crowd.heard.items()
    }
    grown = [(one - before) / 2**20 for one in (max(most), most[-1])]
    print(f"{len(served)} times served; {grown[0]:.1f} MiB more at most, {grown[1]:.1f} at the end")
    print({kind: dict(counts) for kind, counts in kinds.items()})
    expected = {
        "silent": {""},
        "head drips": {""},
        "body drips": {"400"},
        "drips on": {"413"},
        "unread": {""},
        "too long": {"413"},
        "too long, chunked": {"413"},
        "host": {"421"},
        "origin": {"403"},
    }
    assert {kind: set(counts) for kind, counts in kinds.items()} == expected
    for answer in (one for heard in crowd.heard.values() for one in heard):
        for told in ("Traceback", 'File "', str(ROOT), str(tmp_path), sys.prefix, "site-packages"):
            assert told.encode() not in answer
