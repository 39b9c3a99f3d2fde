"""FP16 forms of the real graphs: what is FP16, why the islands are not, and what comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.graphs.small_graphs import kinds
from onnx import TensorProto, numpy_helper

from hsnet_trt.export.graphs.lowering_plugin import taking_columns
from hsnet_trt.export.graphs.parity import TOLERANCE, session
from hsnet_trt.export.precision.emulation import emulated
from hsnet_trt.export.precision.fp16 import (
    ISLANDS,
    PRODUCTS,
    to_fp16,
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
