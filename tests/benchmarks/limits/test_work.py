"""Counted work against graphs computed by hand, PyTorch's own counter, and known figures."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from helpers.graphs.rows import in_rows
from onnx import TensorProto, helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from hsnet_trt.benchmarks.limits.case import Case
from hsnet_trt.benchmarks.limits.roofline import Counter, roofline
from hsnet_trt.benchmarks.limits.work import Step, Work, count
from hsnet_trt.errors import ExportError
from hsnet_trt.export.graphs.lowering_conv2d import MatchConv2d
from hsnet_trt.runtime.bundle import Bundle

F32, F16, I8, U8, I32 = (
    getattr(TensorProto, n) for n in ("FLOAT", "FLOAT16", "INT8", "UINT8", "INT32")
)
RATES = {"fp32": 100e9, "int8": 400e9, "copy": 10e9}


def graph(nodes, inputs, outputs, weights=(), functions=(), opsets=()) -> onnx.ModelProto:
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info(n, kind, shape) for n, kind, shape in inputs],
            [helper.make_tensor_value_info(n, kind, shape) for n, kind, shape in outputs],
            [numpy_helper.from_array(array, name) for name, array in weights],
        ),
        opset_imports=[helper.make_opsetid("", 18), *opsets],
        functions=functions,
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return model


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def test_convolution():
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], strides=[2, 2], pads=[1] * 4, group=2)
    model = graph(
        [node],
        [("x", F32, ["N", 8, 10, 10])],
        [("y", F32, ["N", 6, 5, 5])],
        [("w", zeros(6, 4, 3, 3)), ("b", zeros(6))],
    )
    work = count(model, N=3)
    # a weight of 4 x 3 x 3 for every output, of which there are 3 x 6 x 5 x 5
    assert work.flops == 2 * (3 * 6 * 5 * 5) * (4 * 3 * 3)
    assert work.flops_by_precision() == {"fp32": work.flops}
    ends = 4 * (3 * 8 * 100 + 3 * 6 * 25)
    assert work.needed_bytes == ends + 4 * (6 * 4 * 9 + 6)
    assert work.moved_bytes == work.needed_bytes


def test_products_in_half_precision_and_views():
    nodes = [
        helper.make_node("MatMul", ["a", "b"], ["c"]),
        helper.make_node("Reshape", ["c", "flat"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    model = graph(
        nodes,
        [("a", F16, ["B", 5, 7]), ("b", F16, ["S", 7, 11])],
        [("y", F16, ["Y"])],
        [("flat", np.array([-1], np.int64))],
    )
    work = count(model, B=2, S=2)
    assert [step.op for step in work.steps] == ["MatMul", "Relu"]
    assert work.flops_by_precision() == {"fp16": 2 * 2 * 5 * 7 * 11}
    moved = 2 * (2 * 5 * 7 + 2 * 7 * 11 + 2 * 5 * 11)
    assert work.steps[0].read + work.steps[0].written == moved
    assert work.steps[1].read == work.steps[1].written == 2 * 2 * 5 * 11


@pytest.mark.parametrize(
    ("node", "shapes", "out", "flops"),
    [
        (helper.make_node("Gemm", ["a", "b"], ["y"], transA=1), [[7, 5], [7, 3]], [5, 3], 210),
        (helper.make_node("Gemm", ["a", "b"], ["y"], transB=1), [[5, 7], [3, 7]], [5, 3], 210),
        (
            helper.make_node("Einsum", ["a", "b"], ["y"], equation="bck,bcj->bkj"),
            [[2, 7, 5], [2, 7, 3]],
            [2, 5, 3],
            2 * 2 * 7 * 5 * 3,
        ),
        (
            helper.make_node("ConvTranspose", ["a", "b"], ["y"], strides=[2, 2]),
            [[1, 4, 5, 5], [4, 6, 2, 2]],
            [1, 6, 10, 10],
            2 * (4 * 5 * 5) * (6 * 2 * 2),
        ),
    ],
)
def test_other_products(node, shapes, out, flops):
    inputs = [(name, F32, shape) for name, shape in zip("ab", shapes, strict=True)]
    assert count(graph([node], inputs, [("y", F32, out)])).flops == flops


def test_integers_are_told_apart():
    scale = ("s", np.array(0.1, np.float32))
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"]),
        helper.make_node("MatMul", ["d", "v"], ["m"]),  # quantised on both sides
        helper.make_node("MatMul", ["m", "u"], ["y"]),  # not
    ]
    weights = [
        scale,
        ("z", np.array(0, np.int8)),
        ("w", zeros(8, 4, dtype=np.int8)),
        ("u", zeros(4, 2)),
    ]
    work = count(graph(nodes, [("x", F32, [3, 8])], [("y", F32, [3, 2])], weights))
    assert work.flops_by_precision() == {"int8": 2 * 3 * 8 * 4, "fp32": 2 * 3 * 4 * 2}
    model = graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        [("a", U8, [3, 8]), ("b", I8, [8, 4])],
        [("y", I32, [3, 4])],
    )
    assert count(model).flops_by_precision() == {"int8": 2 * 3 * 8 * 4}


def test_functions_are_looked_into():
    body = [helper.make_node("MatMul", ["a", "b"], ["c"])]
    function = helper.make_function(
        "own", "Product", ["a", "b"], ["c"], body, [helper.make_opsetid("", 18)]
    )
    model = graph(
        [helper.make_node("Product", ["x", "w"], ["y"], domain="own")],
        [("x", F32, [3, 8])],
        [("y", F32, [3, 4])],
        [("w", zeros(8, 4))],
        [function],
        [helper.make_opsetid("own", 1)],
    )
    assert count(model).flops == 2 * 3 * 8 * 4


def test_a_slice_reads_what_it_writes():
    ends = [(name, np.array([n], np.int64)) for name, n in (("b", 0), ("e", 2))]
    node = helper.make_node("Slice", ["x", "b", "e"], ["y"])
    work = count(graph([node], [("x", F32, [100, 10])], [("y", F32, [2, 10])], ends))
    assert work.moved_bytes == 2 * 4 * 2 * 10


def test_what_cannot_be_counted_is_said():
    nodes = [
        helper.make_node("NonZero", ["x"], ["n"]),
        helper.make_node("Cast", ["n"], ["f"], to=F32),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    model = graph(nodes, [("x", F32, [3, 8])], [("y", F32, ["Y", 2])], [("w", zeros(24, 2))])
    with pytest.raises(ExportError, match="MatMul"):
        count(model)


def test_the_known_figure_of_the_correlation():
    """30.8 GFLOP a pair for ResNet-50 at 400 x 400, 25.6 of them in level 2."""
    levels = [(4, 512, 50), (6, 1024, 25), (3, 2048, 13)]
    nodes, inputs, outputs = [], [], []
    for i, (layers, channels, side) in enumerate(levels):
        nodes.append(helper.make_node("MatMul", [f"q{i}", f"s{i}"], [f"y{i}"]))
        inputs += [
            (f"q{i}", F32, ["B", layers, side**2, channels]),
            (f"s{i}", F32, ["S", layers, channels, side**2]),
        ]
        outputs.append((f"y{i}", F32, ["B", layers, side**2, side**2]))
    work = count(graph(nodes, inputs, outputs), B=1, S=1)
    assert work.flops / 1e9 == pytest.approx(30.8, abs=0.06)
    assert work.steps[0].flops / 1e9 == pytest.approx(25.6, abs=0.06)


@pytest.mark.xdist_group("benchmarks")
def test_a_bundle_s_graphs_agree_with_pytorch_s_own_counter(model, bundle):
    """torch counts what it runs, two for each multiply-add, and nothing else."""

    def torch_counts(run, *inputs) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run(*inputs)
        return counter.get_total_flops()

    counter = Counter(Bundle.open(bundle), (64, 64), "fp32", packed=False)
    image = torch.zeros(1, 3, 64, 64)
    features = torch_counts(model.features, image)
    query, support = (
        [in_rows(level) for level in model.features(torch.zeros(n, 3, 64, 64))] for n in (1, 2)
    )
    lowered = MatchConv2d(model, (64, 64)).eval()
    match = torch_counts(lowered, *query, *support)
    stream = counter.work(Case("resnet18", (64, 64), shots=2), "stream")
    assert stream.flops == features + match
    episode = counter.work(Case("resnet18", (64, 64), shots=2), "episode")
    masks = 2 * sum(64 * 64 * n + 64 * n * n for n in (8, 4, 2)) * 2
    assert episode.flops == stream.flops + 2 * features + masks
    batch = counter.work(Case("resnet18", (64, 64), classes=2, batch=2), "stream")
    two = [in_rows(level) for level in model.features(image.expand(2, 3, 64, 64))]
    assert batch.flops == 2 * features + torch_counts(lowered, *two, *support)


def test_the_roofline_is_the_slower_of_computing_and_moving():
    computing = Work((Step("Conv", 10**9, 10**6, 10**6, "fp32"),), needed_bytes=10**6)
    moving = Work((Step("Add", 0, 10**8, 10**8, ""), Step("Conv", 10**6, 10, 10, "int8")), 10**8)
    for work, bound, floor in ((computing, "compute", 10.0), (moving, "memory", 10.0)):
        roof = roofline(work, 40.0, RATES)
        assert roof is not None
        assert (roof.bound, roof.floor_ms, roof.reached) == (
            bound,
            pytest.approx(floor),
            pytest.approx(0.25),
        )
    both = roofline(computing + moving, 40.0, RATES)
    assert both is not None
    assert both.unfused_ms == pytest.approx(10 + 20 + 1e6 / 400e9 * 1e3)
    assert roofline(computing, 40.0, {"copy": 1e9}) is None
    assert roofline(computing, 40.0, RATES, "int8").floor_ms == pytest.approx(2.5)


@pytest.mark.xdist_group("benchmarks")
def test_a_packed_match_is_counted_by_what_lies_under_the_mask(model, bundle):
    packed = Counter(Bundle.open(bundle), (64, 64), "fp32", packed=True)
    whole = Counter(Bundle.open(bundle), (64, 64), "fp32", packed=False)

    def match(counter: Counter, area: float) -> Work:
        work = counter.work(Case("resnet18", (64, 64), area=area), "stream")
        features = len(counter._count("features", N=1).steps)
        return Work(work.steps[features:])

    small, large, full = (match(packed, area) for area in (0.1, 0.5, 1.0))
    assert small.flops < large.flops < full.flops
    assert match(whole, 0.1).flops == match(whole, 1.0).flops
    # The correlation of every column with every query position, and of the one column of zeros.
    products = [step.flops for step in full.steps if step.op == "MatMul"]
    for layers, channels, side in zip((2, 2, 2), (128, 256, 512), (8, 4, 2), strict=True):
        assert 2 * layers * channels * side**2 * (side**2 + 1) in products
