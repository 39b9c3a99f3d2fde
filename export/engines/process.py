"""Run a job in a child process, and turn every way it can fail into one readable error."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import hsnet_trt
from hsnet_trt.errors import BuildError
from hsnet_trt.export.engines.events import Done, Failed, OnEvent, from_json
from hsnet_trt.export.engines.targets import TENSORRT_RTX
from hsnet_trt.export.engines.worker import Job

_TAIL_LINES = 12
_TURING = "check_turing_op_compatibility"


def run_job(job: Job, on_event: OnEvent | None = None) -> dict[str, Any]:
    """Run one job in a child process.

    Args:
        job: see `worker.Job`.
        on_event: called with the worker's progress, see `events.Progress`.

    Returns:
        The worker's result.

    Raises:
        BuildError: TensorRT refused, or the child ended without an answer, for example because
            memory ran out.
        OSError: a file could not be read or written, for example because the disk is full.
    """
    kills = _kernel_kills()
    with tempfile.TemporaryDirectory(prefix="hsnet-trt-") as folder:
        job_file = Path(folder, "job.json")
        job_file.write_text(job.to_json(), encoding="utf-8")
        log_file = Path(folder, "log")
        with log_file.open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "hsnet_trt.export.engines.worker", str(job_file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_with_rtx_library(child_environment(), job.flavour, Path(folder)),
            )
            final = _listen(child, on_event)
        tail = _tail(log_file)
    if isinstance(final, Done):
        return final.result
    if isinstance(final, Failed) and final.errno is not None:
        raise OSError(final.errno, os.strerror(final.errno), final.path)
    if isinstance(final, Failed):
        raise _refused(job, final.problem, tail)
    raise BuildError(
        f"{job.flavour} ended the build: {_cause(child.returncode, _kernel_kills() > kills)}",
        found=tail or "nothing in the builder's log",
        fix="if memory ran out, build with smaller --queries / --supports or --workspace; "
        "else try --level 1 or another version of TensorRT; --verbose shows where it stopped",
    )


def child_environment() -> dict[str, str]:
    """An environment in which a child finds this package where the parent found it."""
    root = str(Path(next(iter(hsnet_trt.__path__))).resolve().parent)
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, inherited]))}


def _with_rtx_library(environment: dict[str, str], flavour: str, folder: Path) -> dict[str, str]:
    """Let the child's TensorRT for RTX find its own library.

    On meeting a plugin, its parser opens `libtensorrt_rtx.so` by that name, and aborts if it is
    missing; the Python package has the library only under a name with a version. The loader reads
    LD_LIBRARY_PATH when a process starts.
    """
    spec = importlib.util.find_spec("tensorrt_rtx_libs") if flavour == TENSORRT_RTX else None
    if spec is None or spec.origin is None:
        return environment
    libraries = sorted(Path(spec.origin).parent.glob("libtensorrt_rtx.so.*"))
    if not libraries:
        return environment
    links = folder / "lib"
    links.mkdir()
    (links / "libtensorrt_rtx.so").symlink_to(libraries[-1])
    paths = (str(links), environment.get("LD_LIBRARY_PATH"))
    return {**environment, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths))}


def _listen(child: subprocess.Popen[bytes], on_event: OnEvent | None) -> Done | Failed | None:
    """Pass progress on until the child ends; returns its last message, None if it sent none."""
    final: Done | Failed | None = None
    assert child.stdout is not None
    try:
        for line in child.stdout:
            try:
                message = from_json(line)
            except ValueError:  # an incomplete line: the child died
                continue
            if isinstance(message, Done | Failed):
                final = message
            elif on_event is not None:
                on_event(message)
        child.wait()
    finally:  # also if the user interrupts
        if child.poll() is None:
            child.kill()
            child.wait()
        child.stdout.close()
    return final


def _refused(job: Job, problem: str, tail: str) -> BuildError:
    if _TURING in tail:
        return BuildError(
            f"{job.flavour} has no FP32 matrix product for Turing cards (compute capability 7.5)",
            expected="a graph in fp16 for this target",
            found=tail,
            fix="export in fp16 too and build with `--precision fp16`, or build with the "
            "full TensorRT (`--flavour tensorrt`) on a machine with that card",
        )
    if "OutOfMemory" in tail or "out of memory" in tail.lower():
        return BuildError(
            f"{job.flavour} ran out of memory",
            found=tail,
            fix="build with smaller --queries / --supports or --workspace, or free memory",
        )
    return BuildError(
        f"{job.flavour} could not {job.task} it: {problem}",
        found=tail or None,
        fix="the log above names the layer; --verbose shows all of it",
    )


def _cause(code: int, killed_by_kernel: bool) -> str:
    if code >= 0:
        return f"its process ended with exit code {code} without an answer"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL":
        if killed_by_kernel:
            return (
                "the system ran out of memory and killed it (SIGKILL by the out-of-memory killer)"
            )
        return "it was killed from outside (SIGKILL), most likely because memory ran out"
    if name == "SIGABRT":
        return "native code aborted (SIGABRT)"
    return f"native code crashed ({name})"


def _kernel_kills() -> int:
    """How many processes the kernel has killed for lack of memory; 0 if it does not report it."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    return 0


def _tail(log: Path) -> str:
    """The last lines of the log: warnings and errors only, if there are any."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    grave = [line for line in lines if not line.startswith(("VERBOSE:", "INFO:"))]
    return "\n".join((grave or lines)[-_TAIL_LINES:])
