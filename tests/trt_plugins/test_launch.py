"""How the C++ plugin launches its kernel, on a CUDA runtime that is made up."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest
from helpers.places import ROOT

from hsnet_trt.trt_plugins.nvcc import architectures, find_nvcc

NVCC = find_nvcc()
SOURCES = [
    ROOT / "trt_plugins" / "cpp" / "launch.cu",
    ROOT / "tests" / "helpers" / "fakes" / "cudart_stub.cpp",
]
WRAPPED = ("cudaPeekAtLastError", "cudaGetLastError", "cudaLaunchKernel", "__cudaLaunchKernel")
ILLEGAL_ADDRESS, NO_KERNEL_IMAGE = 700, 209


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
def test_the_error_of_a_launch_is_its_own(tmp_path: Path) -> None:
    """An error that another library left in the thread is not the launch's."""
    assert NVCC is not None
    library = tmp_path / "launch.so"
    command = [str(NVCC), "-shared", "-std=c++17", "-Xcompiler", "-fPIC"]
    command += ["-Xlinker", ",".join(f"--wrap={name}" for name in WRAPPED)]
    command += [f"-arch=sm_{architectures(NVCC)[0]}", f"-I{ROOT / 'trt_plugins'}"]
    command += [*map(str, SOURCES), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    launch_after = ctypes.CDLL(str(library)).launch_after
    for half in (0, 1):
        assert launch_after(0, 0, half) == 0
        assert launch_after(ILLEGAL_ADDRESS, 0, half) == 0
        assert launch_after(ILLEGAL_ADDRESS, NO_KERNEL_IMAGE, half) == NO_KERNEL_IMAGE
