"""Products of a support with a query in integers, against NumPy."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hsnet_trt.calibration.placement import QDQPlacement, place
from hsnet_trt.calibration.quantize import quantize

ROWS = np.array([[5, 0], [2, 2], [1, 4]])  # of two layers with three rows each
WEIGHT = np.random.default_rng(1).normal(size=(6, 2, 3, 3)).astype(np.float32)
MIX = np.random.default_rng(2).normal(size=(4, 2)).astype(np.float32)


def graph() -> onnx.ModelProto:
    """Two layers' cosines; rows of them go to a convolution and to a float product."""
    nodes = [
        helper.make_node("Identity", ["f2"], ["unit"]),
        helper.make_node("MatMul", ["s2", "unit"], ["product"], "product"),
        helper.make_node("Relu", ["product"], ["cosines"], "relu"),
        helper.make_node("Reshape", ["cosines", "flat"], ["rows"], "reshape"),
        helper.make_node("Gather", ["rows", "which"], ["some"], "gather", axis=1),
        helper.make_node("Reshape", ["some", "planes"], ["plane"], "planar"),
        helper.make_node("Conv", ["plane", "weight"], ["by_query"], "conv", pads=[1] * 4),
        helper.make_node("Neg", ["by_query"], ["turned"]),
        helper.make_node("MatMul", ["mix", "some"], ["mixed"], "mixing"),
    ]
    constants = {
        "flat": np.array([0, -1, 20]),
        "which": ROWS,
        "planes": np.array([-1, 2, 4, 5]),
        "weight": WEIGHT,
        "mix": MIX,
    }
    made = helper.make_graph(
        nodes,
        "cosines",
        [
            helper.make_tensor_value_info("f2", TensorProto.FLOAT, [1, 2, 32, 20]),
            helper.make_tensor_value_info("s2", TensorProto.FLOAT, [2, 3, 32]),
        ],
        [
            helper.make_tensor_value_info("turned", TensorProto.FLOAT, [3, 6, 4, 5]),
            helper.make_tensor_value_info("mixed", TensorProto.FLOAT, [1, 3, 4, 20]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    query, support = rng.normal(size=(1, 2, 32, 20)), rng.normal(size=(2, 3, 32))
    query /= np.linalg.norm(query, axis=2, keepdims=True)
    support /= np.linalg.norm(support, axis=2, keepdims=True)
    return {"f2": query.astype(np.float32), "s2": support.astype(np.float32)}


@pytest.fixture(scope="module")
def placement() -> QDQPlacement:
    return place("match", graph(), results=True)


THRESHOLDS = {"f2": 0.6, "s2": 0.6, "cosines": 0.3, "by_query": 4.0}


def rounded(x: np.ndarray, scale: float, low: int, high: int) -> np.ndarray:
    return np.clip(np.rint(x.astype(np.float64) / scale), low, high)


def quantised_cosines(inputs: dict[str, np.ndarray]) -> np.ndarray:
    """What the integers stand for, [1,2,3,20], by definition and in float64."""
    query = rounded(inputs["f2"], 0.6 / 63, -128, 127) * (0.6 / 63)
    support = rounded(inputs["s2"], 0.6 / 127, -128, 127) * (0.6 / 127)
    return rounded(support @ query, 0.3 / 255, 0, 255) * (0.3 / 255)


def made(layers, **thresholds: float) -> onnx.ModelProto:
    return quantize(graph(), layers, THRESHOLDS | thresholds, {"cosines"})


def answers(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def test_the_product_is_placed_with_its_result(placement):
    layers = {layer.name: layer for layer in placement.layers}
    assert layers.keys() == {"correlation2", "weight"}
    assert layers["correlation2"].results == ("cosines",)
    assert set(placement.sources) == {*THRESHOLDS}
    assert placement.left == ["mixing"]


def test_it_is_computed_as_the_integers_say(placement, inputs):
    """Half a step of the result may round the other way: integers are scaled in float32."""
    model = made([layer for layer in placement.layers if layer.op == "MatMul"])
    expected = quantised_cosines(inputs).reshape(1, 6, 20)[:, ROWS]
    assert 0 < (expected == 0).mean() < 1 and np.isclose(expected.max(), 0.3)
    _, mixed = answers(model, inputs)
    step = 0.3 / 255
    most = 1.01 * step * np.abs(MIX).sum(axis=1)[:, None]
    assert (np.abs(mixed - MIX.astype(np.float64) @ expected) <= most).all()
    assert np.abs(mixed - MIX.astype(np.float64) @ expected).mean() < 1e-2 * step
    exact = np.maximum(inputs["s2"] @ inputs["f2"], 0).reshape(1, 6, 20)[:, ROWS]
    assert np.abs(mixed - MIX @ np.minimum(exact, 0.3)).max() < 0.1


def test_only_what_arithmetic_needs_is_made_float(placement):
    """All of it is moved as bytes, and the convolution takes them as they are."""
    model = made(placement.layers)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("QLinearMatMul") == 1 and "Relu" not in kinds
    makers = {output: node for node in model.graph.node for output in node.output}
    nodes = {node.name: node for node in model.graph.node}
    assert makers[nodes["reshape"].input[0]].op_type == "QLinearMatMul"
    assert makers[nodes["gather"].input[0]].name == "reshape"
    assert makers[nodes["mixing"].input[1]].op_type == "DequantizeLinear"
    float_again = makers[nodes["conv"].input[0]]
    assert float_again.op_type == "DequantizeLinear"
    assert makers[float_again.input[0]].name == "planar"
    # the two operands, and the convolution's result
    assert kinds.count("QuantizeLinear") == 3


@pytest.mark.parametrize("chosen", [["correlation2"], ["weight"], ["correlation2", "weight"]])
def test_alone_or_with_the_convolution_it_still_answers(placement, inputs, chosen):
    layers = [layer for layer in placement.layers if layer.name in chosen]
    model = made(layers, cosines=0.7, by_query=1.5)
    for found, right in zip(answers(model, inputs), answers(graph(), inputs), strict=True):
        assert np.square(found - right).mean() < 0.01 * right.var()


def test_nothing_chosen_changes_nothing(inputs):
    for found, right in zip(answers(made([]), inputs), answers(graph(), inputs), strict=True):
        np.testing.assert_array_equal(found, right)
