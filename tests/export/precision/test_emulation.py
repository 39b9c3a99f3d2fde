"""Emulated FP16: FP32 graphs that round after each operation."""

from __future__ import annotations

import numpy as np
import onnxruntime
from helpers.graphs.small_graphs import small
from onnx import helper

from hsnet_trt.export.graphs.parity import session
from hsnet_trt.export.precision.emulation import emulated
from hsnet_trt.export.precision.fp16 import (
    to_fp16,
)


def test_emulation_is_fp16_arithmetic():
    """Against NumPy's own float16, bit for bit, beyond its end and below its beginning too."""
    model = small(
        [
            helper.make_node("Mul", ["x", "w"], ["a"]),
            helper.make_node("Add", ["a", "x"], ["b"]),
            helper.make_node("Transpose", ["b"], ["c"], perm=[1, 0]),
            helper.make_node("Sub", ["c", "v"], ["y"]),
        ],
        {"w": np.array([300.0, 1e-3, 0.1, 7.0], np.float32), "v": np.array([[0.3]], np.float32)},
        ["N", 4],
    )
    x = (np.random.default_rng(0).standard_normal((64, 4)) * [300, 1e-3, 1, 9]).astype(np.float16)
    w, v = np.array([300.0, 1e-3, 0.1, 7.0], np.float16), np.float16(0.3)
    with np.errstate(over="ignore"):
        expected = (x * w + x).T - v
        assert np.isinf(expected).any() and (np.abs(x * w) < 6e-5).any()
    found = session(emulated(to_fp16(model)).SerializeToString())({"x": x.astype(np.float32)})["y"]
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_onnx_runtime_keeps_the_casts():
    """Emulation stands or falls with this: a sum that FP16 cannot hold is infinite."""
    model = small(
        [helper.make_node("Mul", ["x", "x"], ["a"]), helper.make_node("Mul", ["a", "w"], ["y"])],
        {"w": np.array(1e-3, np.float32)},
        ["N"],
    )
    half = to_fp16(model)
    run = onnxruntime.InferenceSession(
        emulated(half).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert np.isinf(run.run(None, {"x": np.array([300.0], np.float32)})[0]).all()
