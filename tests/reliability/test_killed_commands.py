"""kill -9 of whole commands, at moments that their own output names."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.bundles.real_contract import write_small_bundle

from hsnet_trt.runtime.bundle import Bundle


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with its hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def start(bundle: Path, queries: str) -> subprocess.Popen[str]:
    """Build engines into the bundle; in a group of processes of its own."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "hsnet_trt.cli.main", "build-engine", str(bundle)),
            *("--target", "rtx-4090", "--precision", "fp32", "--queries", queries),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def ended(group: int) -> bool:
    """Whether no process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="bundles are exchanged in one step on Linux")
def test_build_engine_killed(tmp_path: Path) -> None:
    """The command alone is killed: what it started ends by itself."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not made for this platform")
    bundle = write_small_bundle(tmp_path / "bundle", ("fp32",)).path
    first = start(bundle, "1:1:4")
    said, _ = first.communicate(timeout=120)
    assert first.returncode == 0, said
    before, killed = tree(bundle), 0
    for moment in ("at its start", "scratch", "built features", "built support", "built match"):
        process = start(bundle, "1:2:3")
        assert process.stdout is not None
        if moment == "scratch":
            while not list(tmp_path.glob(".bundle.*")) and process.poll() is None:
                time.sleep(0.002)
        elif moment != "at its start":
            while (line := process.stdout.readline()) and moment not in line:
                pass
            assert moment in line
        process.kill()
        process.communicate(timeout=60)  # its children hold the pipe until they end, too
        assert process.returncode in (-signal.SIGKILL, 0), moment
        killed += process.returncode != 0  # the last moments are short: it may have been faster
        end = time.monotonic() + 60
        while not ended(process.pid):
            assert time.monotonic() < end, f"killed {moment}: a process of it goes on"
            time.sleep(0.02)
        Bundle.open(bundle).check()
        # Once the last engine is reported, the new one may be in place already.
        assert tree(bundle) == before or process.returncode == 0 or moment == "built match"
        before = tree(bundle)
    assert killed >= 3
    last = start(bundle, "1:2:3")
    said, _ = last.communicate(timeout=120)
    assert last.returncode == 0, said
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    opened = Bundle.open(bundle)
    opened.check()
    assert [e.profile["B"].most for e in opened.manifest.engines if "B" in e.profile] == [3]
