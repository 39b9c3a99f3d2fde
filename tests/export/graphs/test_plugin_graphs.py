"""The plugin's form of `match`: the op where it should be, and the same answers as native ops."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.kernels.correlation_cases import in_columns
from onnx import TensorProto, helper, numpy_helper

from hsnet_trt.errors import BuildError, ExportError, HSNetWarning
from hsnet_trt.export import bundle as export_module
from hsnet_trt.export.bundle import export_bundle
from hsnet_trt.export.engines.plugin_files import KERNELS_NAME
from hsnet_trt.export.graphs.lowering_plugin import (
    CORRELATION_INPUTS,
    AfterCorrelation,
    put_correlations_before,
)
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.frames import frame_kernels
from hsnet_trt.runtime.frames.frame_kernels import bundled_name, find_kernels
from hsnet_trt.runtime.matching.packing import compress
from hsnet_trt.runtime.matching.running import match_calls, run_match
from hsnet_trt.runtime.ort.runner import OnnxRuntimeRunner
from hsnet_trt.trt_plugins.onnx_op import correlation_nodes, node_sizes

SIZE = (64, 96)
FORM = {"lowering": "conv2d", "correlation": "plugin"}

pytestmark = pytest.mark.xdist_group("real bundle")  # exported once, by one worker


@pytest.fixture(scope="module")
def bundle(real_bundle) -> Bundle:
    return Bundle.open(real_bundle)


@pytest.fixture(scope="module")
def graph(bundle) -> onnx.ModelProto:
    return onnx.load_from_string(bundle.read(bundle.graph("match", SIZE, **FORM).file))


def whole_inputs(bundle: Bundle, queries: int, supports: int, empty: bool) -> dict[str, np.ndarray]:
    """Of the native `match`: supports normalised, and zero outside a mask and behind the grid."""
    rng = np.random.default_rng(queries + 10 * supports)
    inputs = {}
    for spec in bundle.graph("match", SIZE).inputs:
        lead = {"B": queries, "S": supports}[spec.shape[0]]
        array = rng.standard_normal((lead, *spec.shape[1:])).astype(np.float32)
        grid = {"2": 96, "3": 24, "4": 6}[spec.name[1]]
        array[..., grid:] = 0
        if spec.name.startswith("s"):
            array /= np.linalg.norm(array, axis=2, keepdims=True) + 1e-9
            array[..., 0 if empty else grid // 3 :] = 0
        inputs[spec.name] = array
    return inputs


@pytest.mark.parametrize(
    ("queries", "supports", "empty"), [(1, 1, False), (3, 2, False), (2, 4, True)]
)
def test_native_and_plugin_graphs_agree(bundle, queries, supports, empty):
    whole = whole_inputs(bundle, queries, supports, empty)
    columns = {name: whole[name] for name in ("f2", "f3", "f4")}
    for level in "234":
        packed = in_columns(whole[f"s{level}"])
        columns |= {f"{x}{level}": array for x, array in zip("san", packed, strict=True)}
    native, plugin = (
        onnxruntime.InferenceSession(
            bundle.read(bundle.graph("match", SIZE, lowering="conv2d", correlation=c).file),
            providers=["CPUExecutionProvider"],
        ).run(["logits"], inputs)[0]
        for c, inputs in (("native", whole), ("plugin", columns))
    )
    assert native.shape == plugin.shape == (queries, supports, 2, 16, 24)
    assert np.abs(native - plugin).max() < 1e-4 * native.std()


def test_the_runtime_packs_for_the_plugin(bundle):
    """Whole supports or registered shots: the runner's `match` is given columns."""
    whole = whole_inputs(bundle, 1, 3, empty=False)
    logits = []
    for correlation in ("native", "plugin"):
        names = ("features", "support", "match")
        graphs = {name: bundle.graph(name, SIZE) for name in names[:2]}
        graphs["match"] = bundle.graph("match", SIZE, lowering="conv2d", correlation=correlation)
        runner = OnnxRuntimeRunner(bundle, graphs)
        assert runner.columns == (correlation == "plugin")
        logits.append(run_match(runner, whole, whole))
        shots = compress(whole)
        calls = match_calls(runner, [shots[:1], shots[1:]])
        assert ("n2" in calls[0]) == runner.columns
        logits.append(run_match(runner, whole, calls))
        runner.close()
    for other in logits[1:]:
        assert np.abs(logits[0] - other).max() < 1e-4 * logits[0].std()


def test_the_op_feeds_the_first_convolutions_as_it_writes(graph, bundle):
    nodes = correlation_nodes(graph)
    assert [list(node.input) for node in nodes] == [
        [f"f{level}", f"s{level}", f"a{level}", f"n{level}"] for level in (2, 3, 4)
    ]
    grids = ((8, 12), (4, 6), (2, 3))
    for node, grid, stride in zip(nodes, grids, (4, 4, 2), strict=True):
        sizes = node_sizes(node)
        assert (sizes.query_h, sizes.query_w) == (sizes.support_h, sizes.support_w) == grid
        assert sizes.stride == stride
        for output in node.output:
            (reader,) = (n for n in graph.graph.node if output in n.input)
            assert reader.op_type == "Conv"
    native = onnx.load_from_string(bundle.read(bundle.graph("match", SIZE).file))
    kinds = [[n.op_type for n in g.graph.node] for g in (native, graph)]
    assert kinds[0].count("MatMul") - kinds[1].count("MatMul") == 6
    assert kinds[1].count("Transpose") < kinds[0].count("Transpose")
    entry = bundle.graph("match", SIZE, **FORM)
    same = bundle.graph("match", SIZE)
    assert (entry.inputs[:6], entry.outputs) == (same.inputs, same.outputs)
    assert [(spec.name, spec.dtype, spec.shape) for spec in entry.inputs[6:]] == [
        *((f"a{i}", "int32", ("S", row)) for i, row in ((2, 96), (3, 32), (4, 16))),
        *((f"n{i}", "int32", ("S",)) for i in (2, 3, 4)),
    ]


def test_the_bare_graph_is_the_same_without_the_function(graph, bundle):
    entry = bundle.graph("match", SIZE, **FORM)
    content = bundle.read(entry.bare)
    bare = onnx.load_from_string(content)
    assert not bare.functions
    assert list(bare.graph.node) == list(graph.graph.node)
    assert list(bare.graph.initializer) == list(graph.graph.initializer)
    shapes = {v.name: v.type.tensor_type.shape.dim for v in bare.graph.value_info}
    full, pruned = correlation_nodes(bare)[0].output
    assert [d.dim_value for d in shapes[full]][1:] == [2, 8, 12]
    assert [d.dim_value for d in shapes[pruned]][1:] == [2, 8, 12]
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.Fail, match="hsnet"):
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def test_only_the_plugins_graphs_have_a_bare_one(bundle):
    for entry in bundle.manifest.graphs:
        assert (entry.bare is not None) == (entry.variant.correlation == "plugin")


def frames_or_failure(kernels: bytes | None) -> bytes:
    if kernels is None:
        raise BuildError("nvcc failed", found="no C++ compiler")
    return kernels + b" frames"


@pytest.mark.parametrize("kernels", [None, b"\x50\xed\x55\xba compiled"])
def test_kernels_join_the_bundle_where_there_are_any(
    resnet18, bundle, graph, tmp_path, monkeypatch, kernels
):
    made = {
        name: onnx.load_from_string(bundle.read(bundle.graph(name, SIZE).file))
        for name in ("features", "support")
    }
    monkeypatch.setattr(export_module, "export_features", lambda *a: made["features"])
    monkeypatch.setattr(export_module, "export_support", lambda *a: made["support"])
    monkeypatch.setattr(export_module, "export_match", lambda *a: graph)
    monkeypatch.setattr(export_module, "compiled_kernels", lambda: kernels)
    monkeypatch.setattr(frame_kernels, "compiled_kernels", lambda: frames_or_failure(kernels))
    steps = []
    fails = kernels is None
    with pytest.warns(HSNetWarning, match="draw masks were left out") if fails else nullcontext():
        manifest = export_bundle(
            resnet18,
            tmp_path / "b",
            sizes=[SIZE],
            correlations=["plugin"],
            precisions=["fp32"],
            progress=lambda what, done, total: steps.append((done, total)),
        )
    assert steps == [(done, 7) for done in range(7)]
    assert [g.variant.correlation for g in manifest.graphs] == ["", "", "plugin"]
    assert {f.correlation for f in manifest.parity} == {"plugin"}
    written = Bundle.open(tmp_path / "b")
    assert (KERNELS_NAME in manifest.files) == (kernels is not None)
    if kernels is not None:
        assert written.read(KERNELS_NAME) == kernels
        assert written.read(bundled_name()) == find_kernels(written, "8.7") == kernels + b" frames"
    assert (bundled_name() in manifest.files) == (kernels is not None)


def tail(module: AfterCorrelation, kind: int, joins: bool = True) -> onnx.ModelProto:
    """An `AfterCorrelation` as exported, but with the sum of its inputs for the network."""
    nodes, inputs, constants = [], [], []
    for name, shape in zip(CORRELATION_INPUTS, module.shapes(1), strict=True):
        inputs.append(helper.make_tensor_value_info(name, kind, ["P", *shape[1:]]))
        to = [-1, *shape[2:]] if joins else [0, -1, *shape[3:]]
        constants.append(numpy_helper.from_array(np.array(to, np.int64), f"{name}_to"))
        nodes.append(helper.make_node("Reshape", [name, f"{name}_to"], [f"{name}_joined"]))
        nodes.append(helper.make_node("ReduceSum", [f"{name}_joined"], [f"{name}_sum"], keepdims=0))
    sums = [f"{name}_sum" for name in CORRELATION_INPUTS]
    constants.append(numpy_helper.from_array(np.array([-1, 2, 1, 1], np.int64), "to"))
    nodes += [
        helper.make_node("Sum", sums, ["sum"]),
        helper.make_node("Unsqueeze", ["sum", "axis"], ["one"]),
        helper.make_node("Concat", ["one", "one"], ["two"], axis=0),
        helper.make_node("Reshape", ["two", "to"], ["logits"]),
    ]
    constants.append(numpy_helper.from_array(np.array([0], np.int64), "axis"))
    outputs = [helper.make_tensor_value_info("logits", kind, ["P", 2, 1, 1])]
    made = helper.make_graph(nodes, "tail", inputs, outputs, constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("kind", "name"), [(TensorProto.FLOAT, "float32"), (TensorProto.FLOAT16, "float16")]
)
def test_the_ops_type_is_the_graphs(resnet18, kind, name):
    module = AfterCorrelation(resnet18, SIZE)
    whole = put_correlations_before(tail(module, kind), module, resnet18.backbone.channels)
    onnx.checker.check_model(whole, full_check=True)
    types = {v.type.tensor_type.elem_type for v in (*whole.graph.input, *whole.graph.output)}
    assert types == {kind, TensorProto.INT32}
    session = onnxruntime.InferenceSession(
        whole.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = {}
    for value in session.get_inputs():
        shape = [1, *value.shape[1:]]
        if value.type == "tensor(int32)":  # every position of the grid, in order
            grid = {"2": 96, "3": 24, "4": 6}[value.name[1]]
            every = np.arange(shape[-1], dtype=np.int32)
            feed[value.name] = every[None] if len(shape) == 2 else np.array([grid], np.int32)
        else:
            feed[value.name] = np.full(shape, shape[2] ** -0.5, name)
    logits = session.run(None, feed)[0]
    # Of equal vectors every cosine is 1: the sum is the number of elements.
    elements = sum(int(np.prod(shape)) for shape in module.shapes(1))
    assert logits.dtype == name
    assert logits.shape == (1, 1, 2, 1, 1)
    np.testing.assert_allclose(logits, elements, rtol=2e-3)


def test_other_types_and_other_beginnings_are_refused(resnet18):
    module, channels = AfterCorrelation(resnet18, SIZE), resnet18.backbone.channels
    with pytest.raises(ExportError, match="no form for bfloat16"):
        put_correlations_before(tail(module, TensorProto.BFLOAT16), module, channels)
    with pytest.raises(ExportError, match="something else around the correlations"):
        put_correlations_before(tail(module, TensorProto.FLOAT, joins=False), module, channels)
