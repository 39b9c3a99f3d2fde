"""ONNX Runtime's CUDA provider: whether it can work here, its options, and what its errors mean.

The provider is a library of its own, in the package `onnxruntime-gpu`. Where it cannot be loaded,
ONNX Runtime writes a line to its log and computes on the CPU; so all that it needs is looked for
first, and what is missing is named.
`python -m hsnet_trt.runtime.ort.cuda` prints as JSON what keeps it from working; a library
that is broken then ends a child process, and not its caller.
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
# How cuDNN's algorithms for convolutions are found: by its heuristics, or by timing each of them
# anew for every shape, which is ONNX Runtime's own default. The last call for a set of supports
# often has a shape of its own, so here the heuristics come first.
SEARCHES = ("HEURISTIC", "EXHAUSTIVE")
# Chosen by what they do; no card has compared them yet. Memory grows by what is asked for, not to
# the next power of two. FP32 is FP32, not TF32.
OPTIONS = {
    "cudnn_conv_algo_search": SEARCHES[0],
    "arena_extend_strategy": "kSameAsRequested",
    "use_tf32": "0",
}
_CUDNN = "9"
_SESSIONS = 3  # features, support and match


@dataclass(frozen=True)
class CudaChoice:
    """What may be chosen of ONNX Runtime on a GPU.

    Attributes:
        memory: bytes that its memory arenas may take in all; None for the GPU's.
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
    """See that the provider has all that it needs, and load the libraries it links to.

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

    Only for afterwards: the library expects that ONNX Runtime was the first to load it.
    """
    name = "libonnxruntime_providers_cuda.so"
    if sys.platform == "win32":
        name = "onnxruntime_providers_cuda.dll"
    library = Path(onnxruntime.__file__).parent / "capi" / name
    return _problem(str(library)) or "no reason given; see what ONNX Runtime printed"


def cuda_failure(error: str) -> str | None:
    """The part of ONNX Runtime's error that CUDA gave, as "CUDA failure 35: ..."; None if none."""
    found = re.search(r"CUDA failure \d+: [^;\n]+", error)
    return found[0].strip() if found else None


def remedy(error: str) -> str | None:
    """What mends an error of ONNX Runtime on a GPU, by its text; None if nothing is known."""
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
    """Load the libraries of a CUDA of that major version; says of each what keeps it out."""
    if hasattr(onnxruntime, "preload_dlls"):  # 1.21 and later
        _preload(onnxruntime)
    if sys.platform != "linux":
        return []
    needed = [f"libcublasLt.so.{cuda}", f"libcublas.so.{cuda}", "libcurand.so.10"]
    needed += [f"libcudart.so.{cuda}", f"libcudnn.so.{_CUDNN}"]
    # Not every version links to these, and those that do are then asked for by name.
    helpful = [f"libnvrtc.so.{cuda}", f"libcufft.so.{int(cuda) - 1}"]
    missing = []
    for name in (*helpful, *needed):
        problem = _load(name)
        if problem is not None and name in needed:
            missing.append(problem)
    return missing


@functools.cache
def _preload(onnxruntime: Any) -> None:
    """Let ONNX Runtime load what lies beside it; it prints what it misses, which we do below."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        onnxruntime.preload_dlls()
    for line in printed.getvalue().splitlines():
        _log.debug("onnxruntime.preload_dlls: %s", line)


def _load(name: str) -> str | None:
    """Load a library from where the system or a wheel has it; else why that is not possible."""
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
    """Load a library for good; in words, why that fails."""
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return str(error).replace(_ABSENT, "not found")
    return None


def _folders() -> Iterator[Path]:
    """Where the wheels of NVIDIA and PyTorch and CUDA's toolkit put libraries."""
    for entry in sys.path:
        yield from sorted(Path(entry, "nvidia").glob("*/lib"))
        yield Path(entry, "torch", "lib")
    yield Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "lib64")


def _report() -> dict[str, str | None]:
    """What keeps the provider from working here, and what mends it; None where nothing does."""
    import onnxruntime

    try:
        check_cuda(onnxruntime, find_driver())
    except BackendError as error:
        problem = error.summary + (f" ({error.found})" if error.found else "")
        return {"problem": problem, "fix": error.fix}
    return {"problem": None, "fix": None}


if __name__ == "__main__":
    print(json.dumps(_report()))
