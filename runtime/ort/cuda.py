"""ONNX Runtime's CUDA provider: checks of its requirements, its options, and fixes for its errors.

The provider is a separate library, in the package `onnxruntime-gpu`. If it cannot be loaded, ONNX
Runtime only logs that and computes on the CPU. So its requirements are checked first, and errors
name what is missing. `python -m hsnet_trt.runtime.ort.cuda` prints the problem as JSON, for callers
that check in a child process, in case a broken library crashes it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device.machine import Driver, Gpu, find_driver

_log = logging.getLogger("hsnet_trt")

PROVIDER = "CUDAExecutionProvider"
# Both packages fill the folder `onnxruntime`: of two, the one installed last works, and removing
# either breaks the other.
INSTALL = (
    "python -m pip uninstall -y onnxruntime onnxruntime-gpu && "
    "python -m pip install 'onnxruntime-gpu[cuda,cudnn]'"
)
# How cuDNN's convolution algorithms are chosen: by its heuristics, or by timing all of them for
# every new shape, which is ONNX Runtime's default. The last call for a support set often has a
# shape of its own, so the heuristics are the default here.
SEARCHES = ("HEURISTIC", "EXHAUSTIVE")
# Chosen by their description; not compared on a card yet. Memory grows by the requested size, not
# to the next power of two. FP32 is computed in FP32, not TF32.
OPTIONS = {
    "cudnn_conv_algo_search": SEARCHES[0],
    "arena_extend_strategy": "kSameAsRequested",
    "use_tf32": "0",
}
_CUDNN = "9"
_SESSIONS = 3  # features, support and match


@dataclass(frozen=True)
class CudaChoice:
    """Options of ONNX Runtime on a GPU.

    Attributes:
        memory: bytes that its memory arenas may take together; None for all the GPU's.
        search: one of `SEARCHES`.
    """

    memory: int | None = None
    search: str = SEARCHES[0]

    @property
    def options(self) -> dict[str, str]:
        """The provider's options, but for those of the GPU."""
        return {**OPTIONS, "cudnn_conv_algo_search": self.search}


USUAL = CudaChoice()
_ABSENT = "cannot open shared object file: No such file or directory"


def check_cuda(onnxruntime: Any, driver: Driver) -> Gpu:
    """Check the provider's requirements, and load the libraries it links to.

    Args:
        onnxruntime: the module.
        driver: the NVIDIA driver, from `find_driver`.

    Returns:
        The first GPU.

    Raises:
        BackendError: no driver or GPU, no such provider in this package, one that is built for a
            newer CUDA than the driver serves, or libraries of CUDA or cuDNN that cannot be loaded.
    """
    if not driver.gpus:
        raise BackendError(
            "there is no GPU to run ONNX Runtime on",
            found=driver.problem,
            fix="see `hsnet-trt doctor`, or use the backend onnxruntime, which runs on the CPU",
        )
    package = f"{getattr(onnxruntime, 'package_name', 'onnxruntime')} {onnxruntime.__version__}"
    providers = onnxruntime.get_available_providers()
    if PROVIDER not in providers:
        raise BackendError(
            "this ONNX Runtime has no CUDA provider",
            expected=f"a package with {PROVIDER}",
            found=f"{package} with {', '.join(providers)}",
            fix=f"install the one for CUDA in its place: {INSTALL}",
        )
    built = str(getattr(onnxruntime, "cuda_version", None) or "")
    if not built:  # as in some builds for Jetson: opening a session shows it
        return driver.gpus[0]
    cuda = built.partition(".")[0]
    if driver.cuda_version and int(driver.cuda_version.partition(".")[0]) < int(cuda):
        raise BackendError(
            "this ONNX Runtime is built for a newer CUDA than the driver serves",
            expected=f"a driver for CUDA {cuda}",
            found=f"{package} for CUDA {built}, a driver for CUDA {driver.cuda_version}",
            fix="update NVIDIA's driver, or install an onnxruntime-gpu that is built for CUDA "
            + driver.cuda_version.partition(".")[0],
        )
    missing = _load_libraries(onnxruntime, cuda)
    if missing:
        raise BackendError(
            "libraries that ONNX Runtime's CUDA provider needs cannot be loaded",
            expected=f"CUDA {cuda} and cuDNN {_CUDNN}, for {package}",
            found="; ".join(missing),
            fix="install them: python -m pip install "
            f"'onnxruntime-gpu[cuda,cudnn]=={onnxruntime.__version__}'",
        )
    return driver.gpus[0]


def provider_options(gpu: Gpu, options: Mapping[str, str] = OPTIONS) -> dict[str, str]:
    """The provider's options on a GPU: those given, and for each session a share of its memory.

    The limit is of a session's arena alone: what CUDA and its libraries take comes on top.
    """
    memory = str(gpu.own_memory_bytes // _SESSIONS)
    return {"device_id": str(gpu.index), "gpu_mem_limit": memory, **options}


def why_on_the_cpu(onnxruntime: Any) -> str:
    """Why a session that was to run on the GPU came up on the CPU, in the system loader's words.

    Call it only after the failure: the library must first be loaded by ONNX Runtime.
    """
    name = "libonnxruntime_providers_cuda.so"
    if sys.platform == "win32":
        name = "onnxruntime_providers_cuda.dll"
    library = Path(onnxruntime.__file__).parent / "capi" / name
    return _problem(str(library)) or "no reason given; see what ONNX Runtime printed"


def cuda_failure(error: str) -> str | None:
    """CUDA's part of ONNX Runtime's error, as "CUDA failure 35: ..."; None if it has none."""
    found = re.search(r"CUDA failure \d+: [^;\n]+", error)
    return found[0].strip() if found else None


def remedy(error: str) -> str | None:
    """The fix for an error of ONNX Runtime on a GPU, by its text; None if unknown."""
    text = error.lower()
    for signs, fix in _REMEDIES:
        if any(sign in text for sign in signs):
            return fix
    return None


_REMEDIES = (
    (
        ("out of memory", "failed to allocate memory", "available memory of", "alloc_failed"),
        "the GPU's memory, or the limit that was set with gpu_memory, does not suffice: end what "
        "else uses it, give fewer pictures at once, or take precision fp16 or a smaller size",
    ),
    (
        ("driver version is insufficient", "unsupported display driver"),
        "update NVIDIA's driver, or install an onnxruntime-gpu for the CUDA that it serves",
    ),
    (
        ("no cuda-capable device", "invalid device ordinal"),
        "see `hsnet-trt doctor`; in a container: start it with --gpus all",
    ),
    (
        ("no kernel image", "not supported on this gpu"),
        "this onnxruntime-gpu holds no code for the GPU: install one that does, or use TensorRT",
    ),
    (
        ("cudnn is not available", "cudnn is unavailable", "libcudnn"),
        "install cuDNN: python -m pip install 'onnxruntime-gpu[cudnn]'",
    ),
)


def _load_libraries(onnxruntime: Any, cuda: str) -> list[str]:
    """Load the libraries of that CUDA major version; returns the problems of those that fail."""
    if hasattr(onnxruntime, "preload_dlls"):  # 1.21 and later
        _preload(onnxruntime)
    if sys.platform != "linux":
        return []
    needed = [f"libcublasLt.so.{cuda}", f"libcublas.so.{cuda}", "libcurand.so.10"]
    needed += [f"libcudart.so.{cuda}", f"libcudnn.so.{_CUDNN}"]
    # Not every version links to these, so it is no problem if they are missing.
    helpful = [f"libnvrtc.so.{cuda}", f"libcufft.so.{int(cuda) - 1}"]
    missing = []
    for name in (*helpful, *needed):
        problem = _load(name)
        if problem is not None and name in needed:
            missing.append(problem)
    return missing


@functools.cache
def _preload(onnxruntime: Any) -> None:
    """Let ONNX Runtime load the libraries of its wheels; its printed messages go to the log."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        onnxruntime.preload_dlls()
    for line in printed.getvalue().splitlines():
        _log.debug("onnxruntime.preload_dlls: %s", line)


def _load(name: str) -> str | None:
    """Load a library from the system or a wheel; returns the problem, or None if it is loaded."""
    problem = _problem(name)
    if problem is None:
        return None
    others = set()
    for folder in _folders():
        path = folder / name
        if path.is_file():
            problem = _problem(str(path))
            if problem is None:
                return None
        others |= {p.name for p in folder.glob(f"{name.partition('.so')[0]}.so.*")} - {name}
    return f"{problem} (but {', '.join(sorted(others))} is here)" if others else problem


def _problem(library: str) -> str | None:
    """Load a library; returns why that fails, or None."""
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return str(error).replace(_ABSENT, "not found")
    return None


def _folders() -> Iterator[Path]:
    """The library folders of NVIDIA's and PyTorch's wheels and of the CUDA toolkit."""
    for entry in sys.path:
        yield from sorted(Path(entry, "nvidia").glob("*/lib"))
        yield Path(entry, "torch", "lib")
    yield Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "lib64")


def _report() -> dict[str, str | None]:
    """The problem that keeps the provider from working here, and its fix; both None if it works."""
    import onnxruntime

    try:
        check_cuda(onnxruntime, find_driver())
    except BackendError as error:
        problem = error.summary + (f" ({error.found})" if error.found else "")
        return {"problem": problem, "fix": error.fix}
    return {"problem": None, "fix": None}


if __name__ == "__main__":
    print(json.dumps(_report()))
