"""Kernels through NVRTC: the real one where it is installed, and what it refuses."""

from __future__ import annotations

import enum
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from hsnet_trt.errors import BuildError
from hsnet_trt.runtime.frames.frame_kernels import SOURCE
from hsnet_trt.trt_plugins import nvrtc
from hsnet_trt.trt_plugins.nvrtc import compile_cubin


class Status(enum.IntEnum):
    NVRTC_SUCCESS = 0
    NVRTC_ERROR_COMPILATION = 6


def fake(log: bytes = b"", *, fails: bool = False) -> Any:
    """A `cuda.bindings.nvrtc` that notes its options; it reads no files but CUDA's headers."""
    module: Any = types.ModuleType("cuda.bindings.nvrtc")
    module.options, module.destroyed = [], 0

    def create_program(
        text: bytes, name: bytes, count: int, headers: list[bytes], names: list[bytes]
    ) -> tuple[Status, str]:
        assert len(headers) == len(names) == count
        for content in (text, *headers):
            wanted = set(re.findall(rb'#include ["<](\S+)[">]', content))
            assert wanted <= {*names, b"cuda_fp16.h"}, wanted
        return Status.NVRTC_SUCCESS, "program"

    def compile_program(program: str, count: int, options: list[bytes]) -> tuple[Status]:
        assert len(options) == count
        module.options = options
        return (Status.NVRTC_ERROR_COMPILATION if fails else Status.NVRTC_SUCCESS,)

    def fill(content: bytes) -> Any:
        def get(program: str, target: bytearray) -> tuple[Status]:
            target[:] = content
            return (Status.NVRTC_SUCCESS,)

        return get

    def destroy(program: str) -> tuple[Status]:
        module.destroyed += 1
        return (Status.NVRTC_SUCCESS,)

    module.nvrtcCreateProgram = create_program
    module.nvrtcCompileProgram = compile_program
    module.nvrtcGetProgramLogSize = lambda _: (Status.NVRTC_SUCCESS, len(log))
    module.nvrtcGetProgramLog = fill(log)
    module.nvrtcGetCUBINSize = lambda _: (Status.NVRTC_SUCCESS, 5)
    module.nvrtcGetCUBIN = fill(b"cubin")
    module.nvrtcDestroyProgram = destroy
    return module


@pytest.fixture
def headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CUDA's headers where wheels put them, and nowhere else."""
    folder = tmp_path / "site" / "nvidia" / "cu13" / "include"
    folder.mkdir(parents=True)
    (folder / "cuda_fp16.h").write_text("")
    monkeypatch.setattr(nvrtc.sys, "path", [str(tmp_path / "site")])
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "none"))
    return folder


def test_it_compiles_for_that_gpu_with_the_wheels_headers(
    headers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = fake()
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", module)
    assert compile_cubin(SOURCE, 87) == b"cubin" and module.destroyed == 1
    assert b"--gpu-architecture=sm_87" in module.options
    assert b"-I" + str(headers).encode() in module.options


def test_what_keeps_it_from_compiling_is_named(
    headers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = fake(b"frames.cu(3): error: no", fails=True)
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", module)
    with pytest.raises(BuildError, match="NVRTC failed") as caught:
        compile_cubin(SOURCE, 90)
    assert "error: no" in str(caught.value.found) and module.destroyed == 1
    (headers / "cuda_fp16.h").unlink()
    with pytest.raises(BuildError, match="headers are not here"):
        compile_cubin(SOURCE, 90)
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)
    with pytest.raises(BuildError, match="cannot be loaded"):
        compile_cubin(SOURCE, 90)


def test_the_real_one_compiles_the_frame_kernels() -> None:
    pytest.importorskip("cuda.bindings.nvrtc")
    try:
        cubin = compile_cubin(SOURCE, 90)
    except BuildError as error:
        pytest.skip(f"no NVRTC or no headers: {error}")
    assert cubin.startswith(b"\x7fELF")
    for name in (b"hsnet_prepare_f16", b"hsnet_vote_f32", b"hsnet_settle", b"hsnet_likeness_f16"):
        assert name in cubin
