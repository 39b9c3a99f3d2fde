"""TensorRT for RTX finds both plugins and builds engines with them. No GPU is needed for that."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from helpers.graphs.correlation_models import ODD, model_of
from helpers.places import ROOT

from hsnet_trt.trt_plugins import onnx_op
from hsnet_trt.trt_plugins.nvcc import find_nvcc
from hsnet_trt.trt_plugins.sizes import CorrelationSizes

CPP = ROOT / "trt_plugins" / "cpp"
HEADERS = [
    Path(folder)
    for folder in (
        os.environ.get("TENSORRT_INCLUDE_DIR", ""),
        "/usr/include/x86_64-linux-gnu",
        "/usr/include/aarch64-linux-gnu",
    )
    if folder and (Path(folder) / "NvInfer.h").is_file()
]

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_libs") is None, reason="tensorrt-rtx is not installed"
)
needs_headers = pytest.mark.skipif(
    not HEADERS or find_nvcc() is None or shutil.which("cmake") is None,
    reason="the C++ plugin needs nvcc, cmake and NvInfer.h (TENSORRT_INCLUDE_DIR)",
)
pytestmark = pytest.mark.xdist_group("correlation_plugins")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One in which a process finds libtensorrt_rtx.so by that name."""
    spec = importlib.util.find_spec("tensorrt_rtx_libs")
    assert spec is not None
    assert spec.origin is not None
    folder = tmp_path_factory.mktemp("rtx")
    (folder / "libtensorrt_rtx.so").symlink_to(Path(spec.origin).parent / "libtensorrt_rtx.so.1")
    paths = [str(folder), os.environ.get("LD_LIBRARY_PATH", "")]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(path for path in paths if path),
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ plugin, compiled for one architecture."""
    folder = tmp_path_factory.mktemp("plugin")
    configure = ["cmake", "-S", str(CPP), "-B", str(folder), "-DHSNET_ARCHITECTURES=89-real"]
    configure += [f"-DTENSORRT_INCLUDE_DIR={HEADERS[0]}", f"-DCMAKE_CUDA_COMPILER={find_nvcc()}"]
    for command in (configure, ["cmake", "--build", str(folder)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stderr, done.stderr
    return folder / "libhsnet_correlation.so"


Build = Callable[[onnx.ModelProto, str, str], "tuple[dict[str, Any], str]"]


@pytest.fixture
def build(environment: dict[str, str], tmp_path: Path) -> Build:
    def run(model: onnx.ModelProto, plugin: str, flag: str) -> tuple[dict[str, Any], str]:
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        script = str(ROOT / "tests" / "helpers" / "graphs" / "rtx_child.py")
        done = subprocess.run(
            [sys.executable, script, str(path), plugin, flag],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer, done.stdout + done.stderr

    return run


def check_plugin(answer: dict[str, Any], kind: str) -> None:
    assert answer["parsed"], answer["errors"]
    assert answer["plugins"] == 1
    assert answer["products"] == 0
    assert answer["outputs"] == [[kind, -1, 2, 9, 6], [kind, -1, 2, 7, 5]]
    assert answer["engine_bytes"] > 0


@needs_rtx
@pytest.mark.parametrize(("dtype", "kind"), [("float32", "FLOAT"), ("float16", "HALF")])
def test_the_python_plugin_takes_the_functions_place(build: Build, dtype: str, kind: str) -> None:
    model = onnx_op.add_function(model_of(ODD, 2, 16, dtype), dtype)
    check_plugin(build(model, "python", "override")[0], kind)


@needs_rtx
def test_the_python_plugin_runs_a_model_without_the_function(build: Build) -> None:
    model = onnx_op.drop_function(onnx_op.add_function(model_of(ODD, 2, 16, "float16"), "float16"))
    check_plugin(build(model, "python", "plain")[0], "HALF")


@needs_rtx
@pytest.mark.parametrize("flag", ["plain", "override"])
def test_without_a_plugin_the_function_is_native(build: Build, flag: str) -> None:
    model = onnx_op.add_function(model_of(ODD, 2, 16, "float16"), "float16")
    answer, _ = build(model, "none", flag)
    assert answer["parsed"], answer["errors"]
    assert answer["plugins"] == 0
    assert answer["products"] == 1
    assert answer["outputs"] == [["HALF", -1, 2, 9, 6], ["HALF", -1, 2, 7, 5]]
    assert answer["engine_bytes"] > 0


@needs_rtx
@needs_headers
@pytest.mark.parametrize(("dtype", "kind"), [("float32", "FLOAT"), ("float16", "HALF")])
def test_the_cpp_plugin_takes_the_functions_place(
    build: Build, library: Path, dtype: str, kind: str
) -> None:
    model = onnx_op.add_function(model_of(ODD, 2, 16, dtype), dtype)
    answer, _ = build(model, str(library), "override")
    check_plugin(answer, kind)
    # The library travels inside the engine.
    assert answer["engine_bytes"] > library.stat().st_size


def wrong_model(change: str) -> onnx.ModelProto:
    if change == "too large":  # the profile's 3 x 3 pairs: 2.7e9 elements
        large = model_of(CorrelationSizes(100, 100, 100, 100, 4), 3, 16, "float16")
        return onnx_op.drop_function(onnx_op.add_function(large, "float16"))
    model = onnx_op.drop_function(onnx_op.add_function(model_of(ODD, 2, 16, "float16"), "float16"))
    node = onnx_op.correlation_nodes(model)[0]
    stride = next(a for a in node.attribute if a.name == "stride")
    if change == "missing":
        node.attribute.remove(stride)
    elif change == "zero":
        stride.i = 0
    elif change == "mixed types":
        model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    elif change == "float positions":
        model.graph.input[2].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    elif change == "other row":
        model.graph.input[2].type.tensor_type.shape.dim[1].dim_value = 80
    else:
        model.graph.input[1].type.tensor_type.shape.dim[3].dim_value = 55
    return model


MISTAKES = {
    "missing": r"stride.*missing|missing[\s\S]*stride",
    "zero": r"stride",
    "mixed types": r"both FP16 or both FP32",
    "float positions": r"positions and counts INT32",
    "other row": r"do not fit",
    "wrong size": r"do not fit",
    "too large": r"too large",
}


@needs_rtx
@pytest.mark.parametrize("change", MISTAKES)
def test_the_python_plugin_names_what_is_wrong(build: Build, change: str) -> None:
    answer, text = build(wrong_model(change), "python", "plain")
    assert answer["engine_bytes"] == 0
    assert "hsnet::HyperCorrelation" in text
    assert re.search(MISTAKES[change], text), text
    assert "fix:" in text


@needs_rtx
@needs_headers
@pytest.mark.parametrize("change", MISTAKES)
def test_the_cpp_plugin_names_what_is_wrong(build: Build, library: Path, change: str) -> None:
    answer, text = build(wrong_model(change), str(library), "plain")
    assert answer["engine_bytes"] == 0
    assert "hsnet::HyperCorrelation" in text
    assert re.search(MISTAKES[change], text), text
    assert re.search(r"export the model again|cast them|smaller profile", text), text


@needs_headers
def test_the_library_exports_what_tensorrt_looks_for_and_nothing_of_its_own(library: Path) -> None:
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in listed.stdout.splitlines() if " T " in line}
    assert names == {"getCreators", "setLoggerFinder"}
    needed = subprocess.run(
        ["readelf", "-d", str(library)], capture_output=True, text=True, check=True
    ).stdout
    assert "nvinfer" not in needed
    assert "cudart" not in needed
