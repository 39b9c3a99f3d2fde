"""The ONNX function against NumPy, in ONNX Runtime; and the forms a model can take."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from helpers.graphs.correlation_models import ODD, model_of
from helpers.kernels.correlation_cases import blob, features, in_columns, in_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from hsnet_trt.errors import ExportError, InputError
from hsnet_trt.trt_plugins import onnx_op
from hsnet_trt.trt_plugins.reference import hyper_correlation
from hsnet_trt.trt_plugins.sizes import CorrelationSizes


def run(model: onnx.ModelProto, query: Any, support: Any) -> list[Any]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = ("query", "columns", "positions", "counts")
    inputs = (in_rows(query), *in_columns(support))
    return list(session.run(["full", "pruned"], dict(zip(names, inputs, strict=True))))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(*[st.integers(1, 3)] * 3, st.sampled_from([8, 13, 40])),
    spatial=st.tuples(*[st.integers(1, 9)] * 4),
    stride=st.integers(1, 4),
    area=st.sampled_from([None, 0.0, 0.001, 0.3]),
    dtype=st.sampled_from(onnx_op.DTYPES),
)
def test_the_function_is_the_reference(
    *,
    seed: int,
    shape: tuple[int, int, int, int],
    spatial: tuple[int, int, int, int],
    stride: int,
    area: float | None,
    dtype: str,
) -> None:
    sizes = CorrelationSizes(*spatial, stride)
    mask = None if area is None else blob(sizes, area)
    query, support = features(seed, shape, sizes, dtype, mask)
    model = onnx_op.add_function(model_of(sizes, shape[2], shape[3], dtype), dtype)
    expected = hyper_correlation(query, support, sizes)
    for found, wanted in zip(run(model, query, support), expected, strict=True):
        assert found.dtype == np.dtype(dtype)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 if dtype == "float32" else 2e-3)


def test_inlined_model_holds_native_ops_only_and_says_the_same() -> None:
    query, support = features(1, (2, 3, 2, 16), ODD, "float32", blob(ODD, 0.3))
    model = onnx_op.add_function(model_of(ODD, 2, 16, "float32"), "float32")
    inlined = onnx_op.inline_function(model)
    onnx.checker.check_model(inlined, full_check=True)
    assert not inlined.functions
    assert {node.domain for node in inlined.graph.node} <= {""}
    assert [o.domain for o in inlined.opset_import] == [""]
    for a, b in zip(run(inlined, query, support), run(model, query, support), strict=True):
        np.testing.assert_array_equal(a, b)


def test_dropped_model_keeps_the_node_and_its_outputs_types() -> None:
    model = onnx_op.add_function(model_of(ODD, 2, 16, "float16"), "float16")
    dropped = onnx_op.drop_function(model)
    assert not dropped.functions
    assert len(onnx_op.correlation_nodes(dropped)) == 1
    assert onnx_op.node_sizes(onnx_op.correlation_nodes(dropped)[0]) == ODD
    for output in dropped.graph.output:
        assert output.type.tensor_type.elem_type == TensorProto.FLOAT16
        assert len(output.type.tensor_type.shape.dim) == 4
    assert model.functions, "the argument must stay as it was"


def test_shapes_are_inferred_through_the_function() -> None:
    model = onnx_op.add_function(model_of(ODD, 2, 16, "float32"), "float32")
    for value, size in zip(model.graph.input, (2, 3, 3, 3), strict=True):
        value.type.tensor_type.shape.dim[0].dim_value = size
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    found = [
        [dim.dim_value for dim in output.type.tensor_type.shape.dim]
        for output in inferred.graph.output
    ]
    full, pruned = ODD.output_shapes((2, 2, 16, 48), (3, 2, 16, 64), (3, 64), (3,))
    assert [dims[1:] for dims in found] == [list(full[1:]), list(pruned[1:])]


def test_a_dtype_that_the_op_has_not_is_named() -> None:
    with pytest.raises(ExportError, match="HyperCorrelation") as caught:
        onnx_op.add_function(model_of(ODD, 2, 16, "float32"), "int8")
    assert "int8" in str(caught.value)
    assert caught.value.fix


def test_an_old_opset_is_refused() -> None:
    model = model_of(ODD, 2, 16, "float32")
    model.opset_import[0].version = 13
    with pytest.raises(ExportError, match="opset"):
        onnx_op.add_function(model, "float32")


def test_inlining_without_a_function_is_refused() -> None:
    with pytest.raises(ExportError, match="HyperCorrelation") as caught:
        onnx_op.inline_function(model_of(ODD, 2, 16, "float32"))
    assert "add_function" in str(caught.value)


@pytest.mark.parametrize("name", ["query_h", "stride"])
@pytest.mark.parametrize("value", [0, -3, 2.0, True, "4"])
def test_a_wrong_attribute_is_named(name: str, value: Any) -> None:
    attributes = {**ODD.attributes(), name: value}
    with pytest.raises(InputError, match=f"HyperCorrelation.*{name}"):
        CorrelationSizes.from_attributes(attributes)


def test_a_missing_attribute_is_named_when_the_function_is_added() -> None:
    model = model_of(ODD, 2, 16, "float32")
    model.graph.node[0].attribute.remove(
        next(a for a in model.graph.node[0].attribute if a.name == "stride")
    )
    with pytest.raises(InputError, match="missing") as caught:
        onnx_op.add_function(model, "float32")
    assert "stride" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("query", "columns", "positions", "counts"),
    [
        ((1, 2, 16, 32), (1, 2, 16, 64), (1, 64), (1,)),
        ((1, 2, 16, 56), (1, 2, 16, 64), (1, 64), (1,)),
        ((1, 2, 16, 48), (1, 3, 16, 64), (1, 64), (1,)),
        ((1, 2, 16, 48), (1, 2, 8, 64), (1, 64), (1,)),
        ((1, 2, 16, 48), (1, 2, 16, 54), (1, 54), (1,)),
        ((1, 2, 16, 48), (1, 2, 16, 64), (1, 48), (1,)),
        ((1, 2, 16, 48), (1, 2, 16, 64), (2, 64), (1,)),
        ((1, 2, 16, 48), (1, 2, 16, 64), (1, 64), (2,)),
        ((1, 2, 16, 48), (2, 16, 64), (1, 64), (1,)),
        ((0, 2, 16, 48), (1, 2, 16, 64), (1, 64), (1,)),
        ((2**12, 2**10, 1, 48), (2**8, 2**10, 1, 64), (2**8, 64), (2**8,)),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    query: tuple[int, ...],
    columns: tuple[int, ...],
    positions: tuple[int, ...],
    counts: tuple[int, ...],
) -> None:
    with pytest.raises(InputError, match="HyperCorrelation"):
        ODD.output_shapes(query, columns, positions, counts)


def test_the_reference_on_a_pair_worked_by_hand() -> None:
    sizes = CorrelationSizes(1, 2, 1, 3, 2)
    query = np.array([[[[3.0, 0.0], [4.0, -1.0]]]])
    support = np.array([[[[1.0, 0.0, 0.6], [0.0, 0.0, 0.8]]]])
    full, pruned = hyper_correlation(query, support, sizes)
    first = np.array([0.6, 0.0, 1.0]) / (1 + 1e-5 / 5)
    np.testing.assert_allclose(full.reshape(2, 3), [first, [0.0, 0.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(pruned.reshape(2, 2), [[first[0], 0.0], [first[2], 0.0]], atol=1e-12)
