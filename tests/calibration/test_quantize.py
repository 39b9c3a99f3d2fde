from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, checker, helper, numpy_helper

from hsnet_trt.calibration.placement import place
from hsnet_trt.calibration.quantize import quantize


def initializers(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


@pytest.fixture(params=["features", "match"])
def both(request, subject, table):
    name = request.param
    layers, thresholds = subject.placements[name].layers, table.thresholds(name)
    return (
        subject.graphs[name],
        layers,
        thresholds,
        quantize(subject.graphs[name], layers, thresholds),
    )


def test_form(both):
    """INT8, symmetric, FP32 scales, float biases, opset and IR as they were."""
    fp32, layers, _, int8 = both
    checker.check_model(int8, full_check=True)
    assert int8.opset_import == fp32.opset_import
    assert int8.ir_version == fp32.ir_version
    assert [i.name for i in int8.graph.input] == [i.name for i in fp32.graph.input]
    values, before = initializers(int8), initializers(fp32)
    for node in int8.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert node.domain == ""
            assert values[node.input[1]].dtype == np.float32
            assert values[node.input[2]].dtype == np.int8
            assert not values[node.input[2]].any()
    makers = {output: node for node in int8.graph.node for output in node.output}
    wanted = {name for layer in layers for name in layer.nodes}
    for node in int8.graph.node:
        fed = [makers[t].op_type for t in node.input[:2] if t in makers]
        if node.op_type in ("Conv", "MatMul"):
            assert (fed == ["DequantizeLinear"] * 2) == (node.name in wanted)
        if node.op_type == "Conv":
            assert values[node.input[2]].dtype == np.float32
            assert np.array_equal(values[node.input[2]], before[node.input[2]])


def test_weights_are_rounded_by_output_channel(both):
    fp32, layers, _, int8 = both
    before, values = initializers(fp32), initializers(int8)
    makers = {output: node for node in int8.graph.node for output in node.output}
    nodes = {node.name: node for node in int8.graph.node}
    for layer in layers:
        if layer.op != "Conv":
            continue
        dequantize = makers[nodes[layer.nodes[0]].input[1]]
        stored, scale = (values[name] for name in dequantize.input[:2])
        assert stored.dtype == np.int8
        original = next(n for n in fp32.graph.node if n.name == layer.nodes[0]).input[1]
        weight = before[original].astype(np.float64)
        largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        np.testing.assert_allclose(scale, largest / 127, rtol=1e-6)
        restored = stored * scale.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))
        assert (np.abs(restored - weight) <= 0.501 * scale.reshape(-1, 1, 1, 1)).all()


def test_scales_of_activations_are_the_thresholds(both):
    _, layers, thresholds, int8 = both
    values = initializers(int8)
    pairs = dict(pair for layer in layers for pair in layer.pairs)
    found = {
        node.input[0]: float(values[node.input[1]])
        for node in int8.graph.node
        if node.op_type == "QuantizeLinear"
    }
    assert found.keys() == pairs.keys()
    for tensor, source in pairs.items():
        assert found[tensor] == pytest.approx(thresholds[source] / 127, rel=1e-6)


def test_same_bytes_again(subject, table):
    layers, thresholds = subject.placements["match"].layers, table.thresholds("match")
    twice = [quantize(subject.graphs["match"], layers, thresholds) for _ in range(2)]
    assert twice[0].SerializeToString() == twice[1].SerializeToString()


def test_no_layers_change_nothing(subject, table):
    graph = subject.graphs["match"]
    assert quantize(graph, [], table.thresholds("match")) == graph


def test_arithmetic_is_what_numpy_makes_of_it():
    """A product of two activations, quantised by hand in float64."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "s2"], ["y"], name="product")],
        "g",
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [3, 5]),
            helper.make_tensor_value_info("s2", TensorProto.FLOAT, [5, 4]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (layer,) = place("match", model).layers
    assert layer.name == "correlation2"
    thresholds = {"a": 1.5, "s2": 0.7}
    int8 = quantize(model, [layer], thresholds)
    rng = np.random.default_rng(0)
    feed = {"a": rng.standard_normal((3, 5)), "s2": rng.standard_normal((5, 4))}
    steps = {name: t / 127 for name, t in thresholds.items()}
    rounded = {n: np.clip(np.rint(x / steps[n]), -128, 127) * steps[n] for n, x in feed.items()}
    session = onnxruntime.InferenceSession(
        int8.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {n: x.astype(np.float32) for n, x in feed.items()})
    np.testing.assert_allclose(found, rounded["a"] @ rounded["s2"], atol=1e-5)
