"""Runs the Triton server that nvidia-pytriton carries: CPU, Python backend only."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.places import ROOT

VENV = ROOT / ".venv-triton"  # `make test-extras` makes it


def triton_or_skip() -> Any:
    """The client's module; a file that asks is skipped where it or the server is not installed."""
    grpc = pytest.importorskip("tritonclient.grpc", reason="the extra `triton` is not installed")
    if not list(VENV.glob("lib/python3.*/site-packages/pytriton/tritonserver/bin/tritonserver")):
        pytest.skip("nvidia-pytriton is not installed", allow_module_level=True)
    return grpc


class TritonServer:
    """A server process; `start` may be called again after `stop`."""

    def __init__(self, repository: Path, scratch: Path) -> None:
        self.repository, self.scratch = repository, scratch
        self.process: subprocess.Popen | None = None
        self.log = scratch / "server.log"
        self.url = ""

    def start(self, seconds: float = 90) -> None:
        """Start it and wait until every model is ready."""
        import tritonclient.grpc
        from tritonclient.utils import InferenceServerException

        port = self.url.rpartition(":")[2] or str(free_port())  # the same when started again
        self.url = f"127.0.0.1:{port}"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(str(VENV / "bin" / "python"), "-m", "hsnet_trt.serving.triton_server.local"),
                    str(self.repository),
                    f"--grpc-port={port}",
                    "--grpc-address=127.0.0.1",
                    "--allow-http=false",
                    "--model-control-mode=poll",
                    "--repository-poll-secs=1",
                    "--allow-metrics=false",
                    "--exit-timeout-secs=10",
                ],
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                cwd=self.scratch,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        client = tritonclient.grpc.InferenceServerClient(self.url)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.tail()
            try:
                if client.is_server_ready():
                    client.close()
                    return
            except InferenceServerException:
                pass
            time.sleep(0.2)
        self.stop()
        raise AssertionError(f"not ready after {seconds} s\n{self.tail()}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def kill(self) -> None:
        """As a crash would: its processes are gone at once."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def workers(self, model: str) -> list[int]:
        """The processes in which Triton runs a model's Python."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
                parent = int(path.with_name("stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it ended meanwhile
            if (
                words[0].endswith(b"triton_python_backend_stub")
                and any(f"/{model}/".encode() in w and w.endswith(b"/model.py") for w in words)
                and self.process is not None
                and parent == self.process.pid
            ):
                found.append(int(path.parent.name))
        return found

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
