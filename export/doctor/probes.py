"""What is installed here: libraries, the driver and the plugin's toolchain.

Every library is imported in a child process, so that a broken one, even one that aborts on import,
is reported and does not end the report.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsnet_trt.export.doctor.extras import EXTRAS
from hsnet_trt.export.engines.process import child_environment
from hsnet_trt.runtime.device import machine
from hsnet_trt.runtime.device.machine import Driver, Gpu
from hsnet_trt.runtime.ort.cuda import INSTALL
from hsnet_trt.trt_plugins.nvcc import find_nvcc

_TIMEOUT = 120  # seconds for one import: the disk may be cold, or an SD card


def _with(module: str) -> str:
    """An expression that also imports the submodule that is really used."""
    return f"importlib.import_module({module!r}) and None"


# Import name -> an expression for details, evaluated after `import NAME as m`. If the native part
# is in a submodule, that is imported too: `import pycuda` alone succeeds even if its driver module
# cannot be loaded.
LIBRARIES = {
    "numpy": "None",
    "PIL": _with("PIL.Image"),
    "onnxruntime": "', '.join(m.get_available_providers())",
    "tensorrt": "None",
    "tensorrt_rtx": "None",
    "pycuda": _with("pycuda.driver"),
    "cuda.bindings": _with("cuda.bindings.driver"),
    "torch": "f'CUDA {m.version.cuda}' if m.version.cuda else 'CPU only'",
    "onnx": "None",
    "onnxscript": "None",
    "polygraphy": "None",
    "gi": "[m.require_version(name, '1.0') for name in ('Gst', 'GstApp', 'GstVideo')] and None",
    **{name: "None" for extra in EXTRAS for name in extra.packages},
}
_PROBE = """
import importlib, json, sys
name, detail = sys.argv[1:]
m = importlib.import_module(name)
version = getattr(m, "__version__", None) or getattr(m, "VERSION_TEXT", None)
if version is None:
    import importlib.metadata as metadata
    try:
        version = metadata.version(name.split(".")[0])
    except metadata.PackageNotFoundError:
        pass
print("\\n" + json.dumps({"version": str(version) if version else None, "detail": eval(detail)}))
"""


@dataclass(frozen=True)
class Library:
    """A library; `state` is "works", "missing" (not installed) or "broken"."""

    name: str
    state: str
    version: str | None = None
    detail: str | None = None  # details, or why it is broken


@dataclass(frozen=True)
class CudaProvider:
    """Why ONNX Runtime's CUDA provider does not work, and how to fix it; None if it does."""

    problem: str | None
    fix: str | None


@dataclass(frozen=True)
class Tool:
    """A program or header of the plugin's toolchain, and its path; None if it is missing."""

    name: str
    path: str | None


def probe_libraries(libraries: dict[str, str]) -> list[Library]:
    """Import each library in its own child process; `libraries` is like `LIBRARIES`."""
    pending = list(libraries)
    found = {}
    while pending:  # one per core at a time, because an import is mostly processor time
        batch, pending = pending[: machine.usable_cores()], pending[machine.usable_cores() :]
        children = {
            name: _start([sys.executable, "-c", _PROBE, name, libraries[name]]) for name in batch
        }
        for name, child in children.items():
            found[name] = _read_probe(name, child)
    return [found[name] for name in libraries]


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=child_environment(),
    )


def _finish(child: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return child.communicate(timeout=_TIMEOUT)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return "", f"no answer within {_TIMEOUT} s"


def _read_probe(name: str, child: subprocess.Popen[str]) -> Library:
    output, errors = _finish(child)
    if child.returncode == 0:
        try:
            facts = json.loads(output.splitlines()[-1])
            return Library(name, "works", facts["version"], facts["detail"])
        except (ValueError, IndexError, KeyError, TypeError):
            return Library(name, "broken", detail="its import ended the process without an answer")
    lines = [line for line in errors.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    parents = {name, name.split(".", maxsplit=1)[0]}
    if any(last == f"ModuleNotFoundError: No module named '{missing}'" for missing in parents):
        return Library(name, "missing")
    if child.returncode < 0:
        last = f"its import was ended by signal {-child.returncode}. {last}".strip()
    return Library(name, "broken", detail=last[:300] or f"exit code {child.returncode}")


def probe_driver() -> Driver:
    """The NVIDIA driver and its GPUs, queried in a child process."""
    child = _start([sys.executable, "-m", "hsnet_trt.runtime.device.machine"])
    output, errors = _finish(child)
    try:
        facts: dict[str, Any] = json.loads(output.splitlines()[-1])
        gpus = tuple(Gpu(**gpu) for gpu in facts["gpus"])
        return Driver(facts["cuda_version"], gpus, facts["problem"])
    except (ValueError, IndexError, KeyError, TypeError):
        last = errors.strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
        return Driver(None, (), f"the NVIDIA driver is broken: {last[0]}")


def probe_cuda_provider() -> CudaProvider:
    """ONNX Runtime's CUDA provider and the libraries it needs, loaded in a child process."""
    child = _start([sys.executable, "-m", "hsnet_trt.runtime.ort.cuda"])
    output, errors = _finish(child)
    try:
        return CudaProvider(**json.loads(output.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        last = errors.strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
        return CudaProvider(f"ONNX Runtime cannot be loaded ({last[0][:300]})", INSTALL)


def find_onnxruntimes() -> tuple[str, ...]:
    """The installed packages that write to the folder `onnxruntime`, with their versions."""
    found = set()
    for package in importlib.metadata.distributions():
        name = package.metadata["Name"] or ""
        if name.lower().replace("_", "-").split("-")[0] == "onnxruntime" and any(
            file.parts[0] == "onnxruntime" for file in package.files or ()
        ):
            found.add(f"{name} {package.version}")
    return tuple(sorted(found))


def find_tools() -> tuple[Tool, ...]:
    """The plugin's toolchain: CUDA's compiler, a C++ compiler, TensorRT's headers."""
    nvcc = find_nvcc()
    compiler = shutil.which(os.environ.get("CXX") or "c++") or shutil.which("g++")
    folders = [Path("/usr/include"), *sorted(Path("/usr/include").glob("*-linux-gnu"))]
    root = os.environ.get("TENSORRT_ROOT")
    if root:
        folders.insert(0, Path(root, "include"))
    header = next((str(f / "NvInfer.h") for f in folders if (f / "NvInfer.h").is_file()), None)
    return (
        Tool("nvcc", str(nvcc) if nvcc else None),
        Tool("c++", compiler),
        Tool("NvInfer.h", header),
    )
