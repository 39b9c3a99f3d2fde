"""What the child process says when it cannot do its job, in words of the parent."""

from __future__ import annotations

import errno
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from hsnet_trt.export.engines.process import run_job
from hsnet_trt.export.engines.worker import Job


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """y = relu(x), [1,3,8,8]."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 8, 8]) for n in "xy")
    made = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(made, opset_imports=[opset], ir_version=9), tmp_path / "relu.onnx")
    return tmp_path / "relu.onnx"


@pytest.mark.parametrize(
    ("output", "number"), [("/dev/full", errno.ENOSPC), ("missing/out", errno.ENOENT)]
)
def test_an_engine_that_cannot_be_written_is_no_fault_of_a_layer(
    output: str, number: int, graph: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not made for this platform")
    if output.startswith("/dev") and not Path(output).exists():
        pytest.skip("this system has no /dev/full")
    shapes = {"x": [[1, 3, 8, 8]] * 3}
    job = Job("build", "tensorrt_rtx", str(graph), str(tmp_path / output), shapes, ["SM89"])
    with pytest.raises(OSError) as caught:
        run_job(job)
    assert caught.value.errno == number
    if number == errno.ENOENT:  # a full disk is told without a name
        assert caught.value.filename == str(tmp_path / output)
