"""`hsnet-trt app` in a process of its own, and a Chromium that asks it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
_SWITCHES = [
    "--no-sandbox",  # it runs as root in CI
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@contextmanager
def served(bundle: Path, *options: str) -> Iterator[str]:
    """The page's address, for as long as it is served."""
    command = [sys.executable, "-m", "hsnet_trt.cli.main", "app", str(bundle), "--port", "0"]
    with subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            address = process.stdout.readline().strip()
            if not address:
                raise RuntimeError(f"the page did not start: {process.stderr.read()}")
            yield address
        finally:
            process.terminate()
            process.communicate(timeout=20)


@contextmanager
def chromium(playwright: Any) -> Iterator[Any]:
    """A headless Chromium with a new, empty profile; a context of it is a browser of its own."""
    with tempfile.TemporaryDirectory() as profile:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            headless=True,
            args=[*_SWITCHES, f"--disk-cache-dir={profile}"],
        )
        try:
            yield browser
        finally:
            browser.close()
