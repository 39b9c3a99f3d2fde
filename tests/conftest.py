"""For all tests: threads and random numbers; the frame kernels, compiled once a session."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest
from helpers.kernels.emulated import compiler
from helpers.kernels.emulated_frames import compile_frames
from hypothesis import HealthCheck, settings

from hsnet_trt.runtime.frames import frame_kernels

# On a busy machine anything may take long.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Workers share the cores: with a thread for each core in each, threads wait for others."""
    if workers := getattr(config.option, "numprocesses", None):
        threads = max(1, (os.cpu_count() or 1) // workers)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # workers inherit it


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """pytest-xdist 3.8 writes a test's group where pytest 9.2 no longer looks for its name.

    Without it no group is heeded, and each worker exports every bundle.
    """
    for item in items:
        grouped = vars(item).get("_nodeid", item.nodeid)
        if grouped != item.nodeid:
            item._id = type(item._id).parse(grouped)  # type: ignore[attr-defined]


def pytest_collection_finish() -> None:
    """What was imported stays: tests that collect garbage need not look for it among that."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """What PyTorch draws does not depend on which tests this worker ran before."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def frames_image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The frame kernels for the emulator, in place of a fatbin's content."""
    if compiler() is None:
        pytest.skip("no C++ compiler to emulate the kernels with")
    import fcntl  # which Windows lacks

    base = tmp_path_factory.getbasetemp()
    # The workers of pytest-xdist have folders of their own below one, which they share.
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "emulated_frames"
    folder.mkdir(exist_ok=True)
    made = folder / "image"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_bytes(compile_frames(folder))
    return made.read_bytes()


@pytest.fixture
def packaged_kernels(frames_image: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """As in a package with compiled frame kernels; gives their content."""
    (tmp_path / "frames.fatbin").write_bytes(frames_image)
    monkeypatch.setattr(frame_kernels, "FATBIN", tmp_path / "frames.fatbin")
    return frames_image
