"""Which operations of any graph become FP16, and which stay FP32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from helpers.graphs.small_graphs import kinds, small
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from hsnet_trt.errors import ExportError
from hsnet_trt.export.graphs.parity import session
from hsnet_trt.export.precision.emulation import emulated
from hsnet_trt.export.precision.fp16 import (
    MOVES,
    REDUCTIONS,
    to_fp16,
)

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def test_a_weight_beyond_fp16_is_refused():
    model = small(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"w": np.full((4, 4), 7e4, np.float32)},
        ["N", 4],
    )
    with pytest.raises(ExportError, match="does not fit into FP16") as caught:
        to_fp16(model)
    assert "70000" in caught.value.found


def test_what_is_not_known_runs_in_fp32():
    model = small(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Erf", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "w"], ["y"]),
        ],
        {"w": np.eye(4, dtype=np.float32)},
        ["N", 4],
    )
    half = to_fp16(model)
    types = kinds(half)
    by_type = {n.op_type: types[n.output[0]] for n in half.graph.node if n.op_type != "Cast"}
    assert by_type == {"MatMul": HALF, "Erf": FLOAT}


def test_quantised_products_keep_fp32_scales(tmp_path):
    """What stands between dequantising and a product would keep TensorRT from an INT8 kernel."""
    rng = np.random.default_rng(0)
    model = small(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], name="first"),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "v"], ["y"], name="second"),
        ],
        {
            "w": rng.standard_normal((8, 3, 1, 1)).astype(np.float32),
            "v": rng.standard_normal((2, 8, 1, 1)).astype(np.float32),
        },
        ["N", 3, 8, 8],
    )
    onnx.save(model, tmp_path / "m.onnx")

    class Samples(CalibrationDataReader):
        left = 4

        def get_next(self) -> dict[str, np.ndarray] | None:
            self.left -= 1
            shape = (1, 3, 8, 8)
            return {"x": rng.standard_normal(shape).astype(np.float32)} if self.left else None

    quantize_static(
        tmp_path / "m.onnx",
        tmp_path / "q.onnx",
        Samples(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        nodes_to_quantize=["first"],
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )
    mixed = to_fp16(onnx.load(tmp_path / "q.onnx"))
    types = kinds(mixed)
    made_by = {name: n for n in mixed.graph.node for name in n.output}
    first, second = (n for n in mixed.graph.node if n.op_type == "Conv")
    assert {made_by[name].op_type for name in first.input} == {"DequantizeLinear"}
    assert types[first.output[0]] == FLOAT
    assert {types[name] for name in (*second.input, *second.output)} == {HALF}
    for node in mixed.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert types[node.input[1]] == FLOAT
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float16).astype(np.float32)
    wanted = session(onnx.load(tmp_path / "q.onnx").SerializeToString())({"x": x})["y"]
    for form in (mixed, emulated(mixed)):
        answer = session(form.SerializeToString())({"x": x})["y"]
        assert np.abs(answer - wanted).max() < 0.05 * wanted.std()


STEPS = (
    "mul",
    "add",
    "relu",
    "matmul",
    "transpose",
    "reshape",
    "norm",
    "square",
    "centre",
    "concat",
)

# Two squares in a row leave FP16's range, in any arithmetic.
CHAINS = st.lists(st.sampled_from(STEPS), min_size=1, max_size=10).filter(
    lambda steps: steps.count("square") <= 1
)


@settings(max_examples=60, deadline=None)
@given(CHAINS, st.integers(0, 2**31 - 1))
def test_any_chain_of_operations_stays_valid_and_right(steps, seed):
    """Whatever order a lowering may use: the types hold, and so do the values."""
    rng = np.random.default_rng(seed)
    nodes, weights, now = [], {"axis": np.array([1]), "eps": np.array(1e-3, np.float32)}, "x"
    weights["same"] = np.array([-1, 8])

    def put(op: str, *inputs: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [f"v{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    for number, step in enumerate(steps):
        weight = f"w{number}"
        if step in ("mul", "add", "matmul"):
            shape = (8, 8) if step == "matmul" else (8,)
            weights[weight] = (rng.standard_normal(shape) / np.sqrt(8)).astype(np.float32)
            now = put({"mul": "Mul", "add": "Add", "matmul": "MatMul"}[step], now, weight)
        elif step == "transpose":
            now = put("Reshape", put("Transpose", now, perm=[1, 0]), "same")
        elif step == "norm":
            norm = put("Sqrt", put("ReduceSum", put("Mul", now, now), "axis", keepdims=1))
            now = put("Div", now, put("Add", norm, "eps"))
        elif step == "square":
            now = put("Mul", now, put("ReduceMean", put("Mul", now, now), "axis", keepdims=1))
        elif step == "centre":
            now = put("Sub", now, put("ReduceMean", now, "axis", keepdims=1))
        elif step == "concat":
            now = put("Concat", now, now, axis=0)
        else:
            now = put(
                {"relu": "Relu", "reshape": "Reshape"}[step], now, *(["same"] * (step == "reshape"))
            )
    nodes.append(helper.make_node("Mul", [now, "half"], ["y"]))
    weights["half"] = np.array(0.5, np.float32)
    model = small(nodes, weights, [16, 8])
    half = to_fp16(model)
    types = kinds(half)
    for node in half.graph.node:
        if node.op_type in REDUCTIONS | {"Sqrt", "Div"}:
            assert types[node.output[0]] == FLOAT
        if node.op_type == "MatMul":
            assert {types[name] for name in (*node.input, *node.output)} == {HALF}
        if node.op_type in MOVES:
            inputs = {types[name] for name in node.input} & {FLOAT, HALF}
            assert inputs == {types[node.output[0]]}
    x = rng.standard_normal((16, 8)).astype(np.float32)
    wanted = session(model.SerializeToString())({"x": x})["y"]
    judged = session(emulated(half).SerializeToString())({"x": x})["y"]
    native = session(half.SerializeToString())({"x": x})["y"]
    assert native.dtype == np.float16
    # A relu's kink and a norm of nearly nothing amplify rounding; ten steps seldom do so much.
    scale = max(float(np.abs(wanted).max()), 1e-3)
    assert np.median(np.abs(judged - wanted)) < 0.02 * scale
    assert np.median(np.abs(native - wanted)) < 0.02 * scale
