"""Compiling kernels without a CUDA toolkit, with NVRTC from pip's wheels.

It needs `cuda-bindings`, and for the same CUDA version the wheels `nvidia-cuda-nvrtc` and, for its
headers, `nvidia-cuda-runtime`. Both come with `onnxruntime-gpu[cuda]` and with PyTorch for CUDA.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hsnet_trt.errors import BuildError
from hsnet_trt.trt_plugins.nvcc import sources

INSTALL = "python -m pip install cuda-bindings nvidia-cuda-nvrtc nvidia-cuda-runtime"
_HEADER = "cuda_fp16.h"  # CUDA's header that the kernels include
# NVRTC brings no C++ standard library; this is the only header of it that the kernels include.
_CSTDINT = b"""
typedef signed char int8_t; typedef unsigned char uint8_t;
typedef short int16_t; typedef unsigned short uint16_t;
typedef int int32_t; typedef unsigned int uint32_t;
typedef long long int64_t; typedef unsigned long long uint64_t;
"""


def compile_cubin(source: Path, architecture: int) -> bytes:
    """Compile kernels for one GPU; takes about a second.

    Args:
        source: the ``.cu`` file; it may include headers beside it, ``cstdint`` and CUDA's headers.
        architecture: compute capability, 87 for 8.7.

    Returns:
        A cubin, which the driver can load.

    Raises:
        BuildError: NVRTC or CUDA's headers are missing, or the compilation failed.
    """
    nvrtc = _load()
    includes = [b"-I" + os.fsencode(folder) for folder in _include_folders()]
    if not includes:
        raise BuildError(
            "NVRTC cannot compile the kernels: CUDA's headers are not here",
            expected=f"{_HEADER} beside NVIDIA's wheels, or in the folder include of $CUDA_HOME",
            fix=INSTALL,
        )
    options = [f"--gpu-architecture=sm_{architecture}".encode(), b"--std=c++17", *includes]
    headers = {path.name: path.read_bytes() for path in sources(source) if path.suffix != ".cu"}
    headers["cstdint"] = _CSTDINT
    try:
        program = _call(
            nvrtc,
            "nvrtcCreateProgram",
            source.read_bytes(),
            source.name.encode(),
            len(headers),
            list(headers.values()),
            [name.encode() for name in headers],
        )
        try:
            (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
            if int(status):
                log = bytearray(int(_call(nvrtc, "nvrtcGetProgramLogSize", program)))
                nvrtc.nvrtcGetProgramLog(program, log)
                raise BuildError(
                    "NVRTC failed",
                    found=f"{status.name}: {bytes(log).decode(errors='replace').strip()[:2000]}",
                    fix=f"install an NVRTC that knows the GPU: {INSTALL}",
                )
            cubin = bytearray(int(_call(nvrtc, "nvrtcGetCUBINSize", program)))
            _call(nvrtc, "nvrtcGetCUBIN", program, cubin)
        finally:
            nvrtc.nvrtcDestroyProgram(program)
    except RuntimeError as error:  # the library itself cannot be found or is too old
        raise BuildError("NVRTC cannot be loaded", found=error, fix=INSTALL) from error
    return bytes(cubin)


def _load() -> Any:
    try:
        return importlib.import_module("cuda.bindings.nvrtc")
    except (ImportError, OSError, RuntimeError) as error:
        raise BuildError("NVRTC cannot be loaded", found=error, fix=INSTALL) from error


def _call(nvrtc: Any, name: str, *arguments: Any) -> Any:
    """Call a function and return its result besides the status.

    Raises:
        BuildError: the status is not success.
    """
    status, *results = getattr(nvrtc, name)(*arguments)
    if int(status):
        raise BuildError("NVRTC failed", found=f"{name}: {status.name}", fix=INSTALL)
    return results[0] if results else None


def _include_folders() -> Iterator[Path]:
    """Folders with CUDA's headers: of NVIDIA's wheels, and of the toolkit."""
    for entry in sys.path:
        for header in sorted(Path(entry, "nvidia").glob(f"*/include/{_HEADER}")):
            yield header.parent
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    folder = Path(home, "include")
    if (folder / _HEADER).is_file():
        yield folder
