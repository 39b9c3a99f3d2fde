"""FP16 graphs: which operations are FP16, why the islands are not, and what comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from hsnet_trt.errors import ExportError
from hsnet_trt.export.graphs.lowering_plugin import taking_columns
from hsnet_trt.export.graphs.parity import TOLERANCE, session
from hsnet_trt.export.precision.emulation import emulated
from hsnet_trt.export.precision.fp16 import (
    ISLANDS,
    MOVES,
    PRODUCTS,
    REDUCTIONS,
    to_fp16,
    value_types,
)
from hsnet_trt.runtime.bundle import Bundle, describe
from hsnet_trt.runtime.differences import Differences

SIZE = (64, 96)
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16

real = pytest.mark.xdist_group("real bundle")  # exported once, by one worker


@pytest.fixture(scope="module")
def bundle(real_bundle: Path) -> Bundle:
    return Bundle.open(real_bundle)


def load(bundle: Bundle, graph: str, precision: str, **form: str) -> onnx.ModelProto:
    return onnx.load_from_string(bundle.read(bundle.graph(graph, SIZE, precision, **form).file))


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    return value_types(inferred.graph)


# --- The real graphs ------------------------------------------------------------------------------


@real
def test_what_is_fp16_and_what_is_not(bundle):
    checked = 0
    for entry in bundle.manifest.graphs:
        if entry.variant.precision != "fp16":
            continue
        model = onnx.load_from_string(bundle.read(entry.file))
        types = kinds(model)
        passed = {types[v.name] for v in (*model.graph.input, *model.graph.output)}
        assert passed - {TensorProto.INT32} == {HALF}  # INT32: the plugin's positions and counts
        for node in model.graph.node:
            found = {types[name] for name in (*node.input, *node.output) if name}
            found &= {FLOAT, HALF}
            where = f"{describe(entry)}: {node.op_type} {node.output[0]}"
            if node.op_type in PRODUCTS | {"Resize", "MaxPool", "HyperCorrelation"}:
                wanted = {HALF, FLOAT} if node.op_type == "Resize" else {HALF}
                assert found <= wanted and types[node.output[0]] == HALF, where
            elif node.op_type in ISLANDS:
                assert found == {FLOAT}, where
            elif node.op_type != "Cast":
                assert len(found) <= 1, where
        large = [
            t for t in model.graph.initializer if t.data_type == FLOAT and np.prod(t.dims) > 200
        ]
        assert not large
        checked += 1
    assert checked == 5


@real
def test_weights_are_half_as_large(bundle):
    sizes = {
        entry.variant: bundle.manifest.files[entry.file].bytes for entry in bundle.manifest.graphs
    }
    for variant, size in sizes.items():
        if variant.precision == "fp16" and variant.graph != "support":
            (full,) = (
                s
                for v, s in sizes.items()
                if v.precision == "fp32"
                and (v.graph, v.lowering, v.correlation)
                == (variant.graph, variant.lowering, variant.correlation)
            )
            assert 0.49 < size / full < 0.53


def drawn(bundle: Bundle, scale: float) -> dict[str, np.ndarray]:
    """Query features, scaled, and encoded supports of a blob."""
    rng = np.random.default_rng(3)
    entry, arrays = bundle.graph("match", SIZE), {}
    for value in entry.inputs:
        shape = (2, *(int(n) for n in value.shape[1:]))
        array = rng.standard_normal(shape).astype(np.float32)
        if value.name.startswith("s"):
            array /= np.linalg.norm(array, axis=2, keepdims=True)
            array[..., array.shape[-1] // 2 :] = 0  # outside of the mask
        else:
            array *= scale
        arrays[value.name] = array.astype(np.float16).astype(np.float32)
    return arrays


def with_weights(model: onnx.ModelProto, scale: float) -> onnx.ModelProto:
    """All convolutions before a group norm scaled, which the norms divide out again."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    convolved = {n for node in model.graph.node if node.op_type == "Conv" for n in node.input[1:]}
    for tensor in result.graph.initializer:
        if tensor.name in convolved and "decoder" not in tensor.name:
            scaled = numpy_helper.to_array(tensor) * np.float32(scale)
            tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
    return result


# Features of 1e3: 128 squares are 1e8. Convolutions of 1e3: their squares are 1e6. FP16 ends at
# 65504, and begins to lose digits below 6e-5: squares of 5e-5 are 3e-9.
SCALES = {"usual": (1.0, 1.0), "huge": (1e3, 1e3), "tiny": (5e-5, 1e-2)}


def logits(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    run = session(model.SerializeToString())
    if "n2" in {value.name for value in model.graph.input}:  # emulating puts functions in place
        run = taking_columns(run)
    return run(inputs)["logits"]


@real
@pytest.mark.parametrize("form", ["conv2d native", "conv3d native", "conv2d plugin"])
@pytest.mark.parametrize("scales", SCALES)
def test_huge_and_tiny_activations(bundle, form, scales):
    of_features, of_weights = SCALES[scales]
    lowering, correlation = form.split()
    model = load(bundle, "match", "fp32", lowering=lowering, correlation=correlation)
    model = with_weights(model, of_weights)
    inputs = drawn(bundle, of_features)
    expected = logits(model, inputs)
    found = logits(emulated(to_fp16(model)), inputs)
    apart = Differences.between(found, expected)
    assert apart.relative(apart.largest) < TOLERANCE["fp16"].max_difference
    assert apart.relative(apart.p999) < TOLERANCE["fp16"].p999_difference


@real
@pytest.mark.parametrize(
    ("removed", "scales"),
    [
        ({"ReduceSum"}, "huge"),  # the query's sum of squares
        ({"Sqrt"}, "huge"),  # which is 1e8
        ({"ReduceMean"}, "huge"),  # the group norm's variance
        ({"ReduceSum", "Sqrt", "Div"}, "tiny"),
    ],
)
def test_no_island_can_be_left_out(bundle, removed, scales):
    of_features, of_weights = SCALES[scales]
    model = with_weights(load(bundle, "match", "fp32", lowering="conv2d"), of_weights)
    inputs = drawn(bundle, of_features)
    apart = Differences.between(
        logits(emulated(to_fp16(model, ISLANDS - removed)), inputs), logits(model, inputs)
    )
    assert not apart.relative(apart.largest) < TOLERANCE["fp16"].max_difference


@real
@pytest.mark.parametrize("scale", [1e3, 1e-2])
def test_supports_of_huge_and_tiny_features(bundle, scale):
    model = load(bundle, "support", "fp32")
    inputs = {k: v for k, v in drawn(bundle, scale).items() if k.startswith("f")}
    inputs["mask"] = np.zeros((2, *SIZE), np.float32)
    inputs["mask"][:, 8:50, 20:70] = 1
    expected = session(model.SerializeToString())(inputs)
    found = session(emulated(to_fp16(model)).SerializeToString())(inputs)
    native = session(to_fp16(model).SerializeToString())(inputs)
    for name, wanted in expected.items():
        assert native[name].dtype == np.float16
        for answer in (found[name], native[name]):
            np.testing.assert_array_equal(answer == 0, wanted == 0)  # outside of the mask, exactly
            np.testing.assert_allclose(answer, wanted, atol=1e-3)


# --- Graphs of a few operations -------------------------------------------------------------------


def small(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list
) -> onnx.ModelProto:
    """`x` of that shape -> `y`."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


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
