"""Where CUDA's libraries are looked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.fakes.onnxruntime import CUDNN
from helpers.places import ROOT

SEARCH = (
    "import sys, types; from hsnet_trt.runtime.ort.cuda import _load_libraries;"
    "sys.path[:] = sys.argv[1:]; print(_load_libraries(types.SimpleNamespace(), '93'))"
)


def test_libraries_are_found_where_wheels_put_them(tmp_path: Path) -> None:
    """Real libraries and the system's loader, in a process of their own: loaded ones stay.

    Of a CUDA that no machine has, so that its own libraries do not count.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler to make libraries with")
    (tmp_path / "empty.c").write_text("")

    def give(folder: str, name: str) -> None:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        out = str(tmp_path / folder / name)
        source = str(tmp_path / "empty.c")
        subprocess.run([compiler, "-shared", f"-Wl,-soname,{name}", "-o", out, source], check=True)

    def missing() -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_HOME": str(tmp_path / "cuda")}
        environment.pop("LD_LIBRARY_PATH", None)
        return subprocess.run(
            [sys.executable, "-c", SEARCH, str(tmp_path)],
            env=environment, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    for name in ("libcublasLt.so.93", "libcudart.so.93"):
        assert f"{name}: not found" in missing()
        give("nvidia/cu93/lib", name)
        assert name not in missing()
    for name in ("libcurand.so.10", CUDNN):
        give(f"nvidia/{name[3:8]}/lib", name)
    give("torch/lib", "libcublas.so.92")
    assert missing() == "['libcublas.so.93: not found (but libcublas.so.92 is here)']"
    give("torch/lib", "libcublas.so.93")
    assert missing() == "[]"
