"""``hsnet::HyperCorrelation`` in ONNX: schema, node, and a model-local function of native ops.

A model with the function runs everywhere: ONNX Runtime and TensorRT expand it. TensorRT 10.15 and
later (and TensorRT for RTX) use a registered plugin instead if the parser has
``ENABLE_PLUGIN_OVERRIDE``. For TensorRT 10.3 to 10.14, ``drop_function`` leaves the bare op for the
plugin, and ``inline_function`` leaves only native ops.

``onnx`` is imported by the functions that need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hsnet_trt.errors import ExportError
from hsnet_trt.trt_plugins.sizes import DOMAIN, EPSILON, OP, VERSION, CorrelationSizes

if TYPE_CHECKING:
    import onnx

OPSET = 18
DTYPES = ("float32", "float16")

_DOC = """relu(cos(query, support)) of every query image with every support image, for one level.
query [B, L, C, row] raw: query_h * query_w positions, and any rest. Of a support, the columns that
are not zero, side by side: columns [S, L, C, row], normalised; positions [S, row] int32: where on
its grid, ascending; counts [S] int32: how many there are. What lies behind them has no meaning.
full [B * S * query_h * query_w, L, support_h, support_w];
pruned [B * S * ceil(support_h / stride) * ceil(support_w / stride), L, query_h, query_w].
The query's norm: sum of squares in FP32, 1e-5 added to the norm."""

# The correlation is one batched product; both layouts are views and permutes of it. The norm is
# computed in FP32, since 2048 squares overflow FP16. Supports are made dense first: each column is
# scattered to its position, and unused columns to places behind the grid, which are cut off.
_BODY = f"""
<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
{OP} <query_h, query_w, support_h, support_w, stride>
    (query, columns, positions, counts) => (full, pruned)
{{
    h_0 = Constant <value_int: int = @query_h> ()
    w_0 = Constant <value_int: int = @query_w> ()
    h_1 = Constant <value_int: int = @support_h> ()
    w_1 = Constant <value_int: int = @support_w> ()
    step_0 = Constant <value_int: int = @stride> ()
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    axis_0 = Constant <value_ints = [0]> ()
    axis_1 = Constant <value_ints = [1]> ()
    last_axis = Constant <value_ints = [3]> ()
    inner_axes = Constant <value_ints = [1, 2]> ()
    grid_size = Mul (h_1, w_1)
    grid_end = Unsqueeze (grid_size, axis_0)
    row_1d = Shape <start = 3, end = 4> (columns)
    row = Squeeze (row_1d, axis_0)
    ramp = Range (zero, row, one)
    counts_64 = Cast <to = 7> (counts)
    counts_column = Unsqueeze (counts_64, axis_1)
    there = Less (ramp, counts_column)
    behind = Add (ramp, grid_end)
    positions_64 = Cast <to = 7> (positions)
    places = Where (there, positions_64, behind)
    places_4d = Unsqueeze (places, inner_axes)
    columns_shape = Shape (columns)
    indices = Expand (places_4d, columns_shape)
    outer_shape = Shape <start = 0, end = 3> (columns)
    longer = Add (row_1d, grid_end)
    whole_shape = Concat <axis = 0> (outer_shape, longer)
    nothing = Constant <value_float = 0.0> ()
    nothing_typed = Cast <to = @DTYPE@> (nothing)
    nothings = Expand (nothing_typed, whole_shape)
    scattered = ScatterElements <axis = 3> (nothings, indices, columns)
    support = Slice (scattered, axis_0, grid_end, last_axis)
    query_size = Mul (h_0, w_0)
    query_end = Unsqueeze (query_size, axis_0)
    query_grid = Slice (query, axis_0, query_end, last_axis)
    raw = Cast <to = 1> (query_grid)
    squares = Mul (raw, raw)
    channel_axis = Constant <value_ints = [2]> ()
    sum = ReduceSum <keepdims = 1> (squares, channel_axis)
    norm = Sqrt (sum)
    epsilon = Constant <value_float = {EPSILON}> ()
    norm_safe = Add (norm, epsilon)
    unit = Div (raw, norm_safe)
    unit_typed = Cast <to = @DTYPE@> (unit)
    rows = Transpose <perm = [0, 1, 3, 2]> (unit_typed)
    queries = Unsqueeze (rows, axis_1)
    supports = Unsqueeze (support, axis_0)
    cosine = MatMul (queries, supports)
    correlation = Relu (cosine)
    query_major = Transpose <perm = [0, 1, 3, 2, 4]> (correlation)
    all = Constant <value_ints = [-1]> ()
    layers = Shape <start = 1, end = 2> (query)
    query_h_1d = Unsqueeze (h_0, axis_0)
    query_w_1d = Unsqueeze (w_0, axis_0)
    support_h_1d = Unsqueeze (h_1, axis_0)
    support_w_1d = Unsqueeze (w_1, axis_0)
    step = Unsqueeze (step_0, axis_0)
    full_shape = Concat <axis = 0> (all, layers, support_h_1d, support_w_1d)
    full = Reshape (query_major, full_shape)
    grid_shape = Concat <axis = 0> (all, layers, query_end, support_h_1d, support_w_1d)
    grid = Reshape (correlation, grid_shape)
    start = Constant <value_ints = [0, 0]> ()
    steps = Concat <axis = 0> (step, step)
    ends = Concat <axis = 0> (support_h_1d, support_w_1d)
    axes = Constant <value_ints = [3, 4]> ()
    kept = Slice (grid, start, ends, axes, steps)
    support_major = Transpose <perm = [0, 3, 4, 1, 2]> (kept)
    pruned_shape = Concat <axis = 0> (all, layers, query_h_1d, query_w_1d)
    pruned = Reshape (support_major, pruned_shape)
}}
"""


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise ExportError(
            f"{DOMAIN}::{OP} has no form for {dtype}",
            expected=" or ".join(DTYPES),
            found=dtype,
            fix="export in fp32 or fp16; an INT8 correlation is made of native ops only",
        )


def correlation_function(dtype: str) -> onnx.FunctionProto:
    """Return the op as a function of native ops of opset 18.

    Args:
        dtype: ``"float32"`` or ``"float16"``: the type of query, columns and outputs. The query is
            normalised in FP32 and rounded to this type before the product.

    Raises:
        ExportError: another dtype.
    """
    from onnx import TensorProto, parser

    _check_dtype(dtype)
    number = TensorProto.FLOAT if dtype == "float32" else TensorProto.FLOAT16
    function = parser.parse_function(_BODY.replace("@DTYPE@", str(int(number))))
    function.doc_string = _DOC
    return function


def correlation_node(
    inputs: Sequence[str], outputs: Sequence[str], sizes: CorrelationSizes, *, name: str = OP
) -> onnx.NodeProto:
    """Return a node of the op.

    Args:
        inputs: tensor names of query, columns, positions, counts.
        outputs: tensor names of full, pruned.
        sizes: the op's attributes.
        name: the node's name.
    """
    from onnx import helper

    attributes: dict[str, Any] = dict(sizes.attributes())
    return helper.make_node(OP, inputs, outputs, name=name, domain=DOMAIN, **attributes)


def correlation_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes of the op in the model's main graph."""
    return [node for node in model.graph.node if (node.domain, node.op_type) == (DOMAIN, OP)]


def node_sizes(node: onnx.NodeProto) -> CorrelationSizes:
    """Read a node's attributes.

    Raises:
        InputError: one is missing, not an integer, or less than 1.
    """
    from onnx import helper

    return CorrelationSizes.from_attributes(
        {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    )


def _is_the_op(function: onnx.FunctionProto) -> bool:
    return (function.domain, function.name) == (DOMAIN, OP)


def add_function(model: onnx.ModelProto, dtype: str) -> onnx.ModelProto:
    """Return a copy of the model with the function, importing the op's domain.

    Every node's attributes are checked first. An existing function is replaced.

    Raises:
        ExportError: a dtype other than float32 and float16, or an opset below 18.
        InputError: a node's attributes are wrong.
    """
    from onnx import ModelProto, helper

    _check_dtype(dtype)
    for node in correlation_nodes(model):
        node_sizes(node)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < OPSET:
        raise ExportError(
            f"the model's opset is too old for {DOMAIN}::{OP}",
            expected=f"{OPSET} or later",
            found=opset,
            fix=f"export with opset {OPSET}",
        )
    result = ModelProto()
    result.CopyFrom(model)
    others = [function for function in model.functions if not _is_the_op(function)]
    del result.functions[:]
    result.functions.extend([*others, correlation_function(dtype)])
    if DOMAIN not in {o.domain for o in result.opset_import}:
        result.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
    return result


def drop_function(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without the function, which only a plugin can run (TensorRT 10.3 to 10.14).

    Types and shapes are inferred first, with the function, and kept.
    """
    from onnx import shape_inference

    result = shape_inference.infer_shapes(model, data_prop=True)
    kept = [function for function in result.functions if not _is_the_op(function)]
    del result.functions[:]
    result.functions.extend(kept)
    return result


def inline_function(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which the op is replaced by native ops, so that no plugin is used.

    Raises:
        ExportError: the model has nodes of the op but not the function.
    """
    from onnx import inliner

    if correlation_nodes(model) and not any(_is_the_op(f) for f in model.functions):
        raise ExportError(
            f"the model does not carry the function {DOMAIN}::{OP}",
            expected="a model-local function",
            found=", ".join(f"{f.domain}::{f.name}" for f in model.functions) or "no functions",
            fix="call add_function first",
        )
    result = inliner.inline_selected_functions(model, [(DOMAIN, OP)])
    imports = [o for o in result.opset_import if o.domain != DOMAIN]
    del result.opset_import[:]
    result.opset_import.extend(imports)
    return result
