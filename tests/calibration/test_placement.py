from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hsnet_trt.calibration.placement import place

STAGES = {"layer1", "layer2", "layer3", "layer4"}


def test_every_convolution_of_the_backbone(subject):
    placement = subject.placements["features"]
    convolutions = [n for n in subject.graphs["features"].graph.node if n.op_type == "Conv"]
    assert len(convolutions) == 20  # of ResNet-18 without its classifier
    assert [layer.nodes for layer in placement.layers] == [(n.name,) for n in convolutions]
    assert placement.left == []
    assert {layer.block.split(".")[0] for layer in placement.layers} == {"conv1", *STAGES}


def test_skip_inputs_carry_pairs_and_the_main_branch_does_not(subject):
    """Every block's last convolution brings the skip; a shortcut's result is one, too."""
    graph = subject.graphs["features"].graph
    makers = {output: node for node in graph.node for output in node.output}
    quantized = {tensor for x in subject.placements["features"].layers for tensor, _ in x.pairs}
    adds = [node for node in graph.node if node.op_type == "Add"]
    assert len(adds) == 8
    for add in adds:
        main, skip = add.input
        assert makers[main].input[1].endswith("conv2.weight")
        assert skip in quantized
        assert main not in quantized


def test_match_leaves_the_last_layer_and_takes_the_correlations(subject):
    placement = subject.placements["match"]
    names = [layer.name for layer in placement.layers]
    assert placement.left == ["decoder.decoder2.2"]
    assert {"decoder.decoder1.0", "decoder.decoder2.0", "squeeze2.first.conv1"} <= set(names)
    products = [layer for layer in placement.layers if layer.op == "MatMul"]
    assert [layer.name for layer in products] == ["correlation2", "correlation3", "correlation4"]
    reached = {node for layer in products for node in layer.nodes}
    graph = subject.graphs["match"].graph
    assert reached == {node.name for node in graph.node if node.op_type == "MatMul"}


def test_ranges_are_those_of_what_was_moved(subject):
    """Reshaping, pruning and transposing need no ranges of their own."""
    placement = subject.placements["match"]
    makers = {o: n for n in subject.graphs["match"].graph.node for o in n.output}
    moving = {"Reshape", "Transpose", "Slice", "Unsqueeze"}
    sources = placement.sources
    assert {"s2", "s3", "s4"} <= set(sources)
    assert not any(makers[s].op_type in moving for s in sources if s in makers)
    by_name = {layer.name: layer for layer in placement.layers}
    halves = [by_name[f"squeeze2.second.conv{i}"].pairs[0][1] for i in (1, 2)]
    assert halves[0] == halves[1]


def test_names_of_nodes_and_weights_do_not_matter(subject):
    model = onnx.ModelProto()
    model.CopyFrom(subject.graphs["match"])
    renamed = {tensor.name: f"w{i}" for i, tensor in enumerate(model.graph.initializer)}
    for tensor in model.graph.initializer:
        tensor.name = renamed[tensor.name]
    for i, node in enumerate(model.graph.node):
        node.name = f"n{i}"
        node.input[:] = [renamed.get(name, name) for name in node.input]
    found, known = place("match", model), subject.placements["match"]
    assert [x.pairs for x in found.layers] == [x.pairs for x in known.layers]
    assert len(found.left) == len(known.left)


def test_a_sum_that_is_no_residual_is_left():
    """Two branches of equal standing, as of a center-pivot convolution: no pair on the sum."""
    weight = numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "a.weight")
    other = numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "b.weight")
    shape = numpy_helper.from_array(np.array([0, 2, -1]), "shape")
    nodes = [
        helper.make_node("Conv", ["x", "a.weight"], ["p"], name="p"),
        helper.make_node("Conv", ["x", "b.weight"], ["q"], name="q"),
        helper.make_node("Reshape", ["p", "shape"], ["pp"]),
        helper.make_node("Reshape", ["q", "shape"], ["qq"]),
        helper.make_node("Add", ["pp", "qq"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 3, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 9])
    graph = helper.make_graph(nodes, "g", [x], [y], [weight, other, shape])
    placement = place("features", helper.make_model(graph))
    assert [layer.pairs for layer in placement.layers] == [(("x", "x"),)] * 2


@pytest.mark.parametrize("graph", ["features", "match"])
def test_norms_resizing_and_sums_are_never_quantised(subject, graph):
    nodes = {node.name: node.op_type for node in subject.graphs[graph].graph.node}
    touched = {nodes[name] for x in subject.placements[graph].layers for name in x.nodes}
    assert touched <= {"Conv", "MatMul"}
