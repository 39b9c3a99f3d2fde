"""Convert a float32 graph of any lowering to FP16, with FP32 islands where arithmetic needs them.

The result is strongly typed: the graph itself says what is FP16 and what is FP32, by the types of
its weights, inputs and outputs and by Cast nodes, and every backend follows it. (FP16 was a flag of
TensorRT's builder until TensorRT 11 removed it; TensorRT for RTX never had one.)

- FP16: convolutions, matrix products, resizing, pooling, and operations that only move values.
- FP32, the islands: sums and means, square roots, divisions, exponentials, norms, softmax. 2048
  squares overflow FP16 at features of 6, and a mean over a million positions loses every digit.
- Elementwise operations belong to an island if they lead straight into it (`x * x` before a sum) or
  continue it (`x - mean`, `y * scale + bias`, the ReLU after them), up to the next operation that
  moves values or is FP16. What an island computes is rounded to FP16 once, at its end.
- A convolution or product that reads the output of DequantizeLinear stays FP32 in the graph: an
  INT8 kernel runs it, and its scales stay FP32.

Operations that are not listed here run in FP32: slow is better than wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, defs, helper, numpy_helper, shape_inference

from hsnet_trt.calibration.placement import MOVING
from hsnet_trt.errors import ExportError
from hsnet_trt.trt_plugins.onnx_op import add_function, correlation_nodes
from hsnet_trt.trt_plugins.sizes import DOMAIN

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
MOVES = frozenset({*MOVING, "Concat", "DepthToSpace", "SpaceToDepth", "Split", "Tile"})
ELEMENTWISE = frozenset(
    {
        "Abs",
        "Add",
        "Clip",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Max",
        "Min",
        "Mul",
        "Neg",
        "Relu",
        "Sigmoid",
        "Sub",
        "Sum",
        "Where",
    }
)
_OTHERS = frozenset({"AveragePool", "MaxPool", "Resize"})
# Their result is a small statistic over many values; it and what is computed from it stay FP32.
REDUCTIONS = frozenset(
    {
        "GlobalAveragePool",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
    }
)
ISLANDS = REDUCTIONS | frozenset(
    {
        "Div",
        "Exp",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "Log",
        "LogSoftmax",
        "LpNormalization",
        "Pow",
        "Reciprocal",
        "Softmax",
        "Sqrt",
    }
)
# They accept any type; the type of their output does not depend on it.
_ANY = frozenset({"Cast", "Constant", "ConstantOfShape", "Shape", "Size"})
_LARGEST = float(np.finfo(np.float16).max)


def to_fp16(model: onnx.ModelProto, islands: frozenset[str] = ISLANDS) -> onnx.ModelProto:
    """A copy of a float32 graph in FP16, with FP16 inputs and outputs.

    Args:
        model: a graph of `export.graphs`, of any lowering, or a quantised one.
        islands: operations that stay FP32, together with the elementwise ones around them.

    Returns:
        the graph, checked; names of inputs and outputs are kept.

    Raises:
        ExportError: a weight does not fit into FP16, or the result is not valid ONNX.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    if correlation_nodes(result):
        result = add_function(result, "float16")
    inferred = shape_inference.infer_shapes(model, strict_mode=True)
    _Pass(result.graph, value_types(inferred.graph), _opset(model), islands).run()
    try:
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError("the FP16 graph is not valid ONNX", found=error) from error
    return result


class _Pass:
    """The state of one pass: each value's type, and the casts made so far."""

    def __init__(
        self, graph: onnx.GraphProto, types: dict[str, int], opset: int, islands: frozenset[str]
    ) -> None:
        self.graph, self.opset, self.islands = graph, opset, islands
        self.float_values = {name for name, kind in types.items() if kind == FLOAT}
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.now = dict.fromkeys((v.name for v in graph.input), HALF)  # current type of each value
        self.now.update(dict.fromkeys(self.weights, FLOAT))
        self.figures: set[str] = set()  # statistics over many values
        self.inland: set[str] = set()  # outputs of islands, not rounded yet
        self.made: dict[tuple[str, int], str] = {}  # (value, type) -> its name in that type
        self.nodes: list[onnx.NodeProto] = []
        self.leading = self._leading()
        self.dequantized = {
            n for node in graph.node if node.op_type == "DequantizeLinear" for n in node.output
        }

    def run(self) -> None:
        for node in list(self.graph.node):
            self._rewrite(node)
        for value in self.graph.output:
            if value.name in self.float_values and self.now[value.name] == FLOAT:
                self._round_output(value.name)
        for value in (*self.graph.input, *self.graph.output):
            if value.type.tensor_type.elem_type == FLOAT:
                value.type.tensor_type.elem_type = HALF
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for name, tensor in self.weights.items() if name in used]
        del self.graph.node[:], self.graph.value_info[:], self.graph.initializer[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(kept)

    def _rewrite(self, node: onnx.NodeProto) -> None:
        kind = FLOAT
        if node.op_type not in _ANY:
            kind = HALF if self._is_half(node) else FLOAT
            for position, wanted in self._float_inputs(node, kind):
                node.input[position] = self._as(node.input[position], wanted)
        self.nodes.append(node)
        self.now.update(dict.fromkeys(node.output, kind))

    def _is_half(self, node: onnx.NodeProto) -> bool:
        """Whether the node runs in FP16; records what kind its outputs are."""
        op, outputs = node.op_type, set(node.output)
        values = self.float_values.intersection(node.input) - self.weights.keys()
        if op in MOVES | ELEMENTWISE | ISLANDS and values and values <= self.figures:
            self.figures |= outputs
        if op in self.islands:
            if op in REDUCTIONS:
                self.figures |= outputs
            half = False
        elif op in MOVES:
            if not values.isdisjoint(self.dequantized):
                self.dequantized |= outputs
            return not outputs <= self.figures | self.dequantized
        elif op in ELEMENTWISE:
            half = values.isdisjoint(self.figures | self.inland) and not outputs & self.leading
        elif op in PRODUCTS:
            half = self.dequantized.isdisjoint(node.input)
        else:
            half = op in _OTHERS | ISLANDS or node.domain == DOMAIN
        if not half:
            self.inland |= outputs
        return half

    def _leading(self) -> set[str]:
        """Outputs of elementwise operations that lead straight into an island."""
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        leading: set[str] = set()
        for node in reversed(self.graph.node):
            if node.op_type in ELEMENTWISE:
                for reader in readers.get(node.output[0], ()):
                    if reader.op_type in self.islands or leading.intersection(reader.output):
                        leading.update(node.output)
        return leading

    def _float_inputs(self, node: onnx.NodeProto, kind: int) -> list[tuple[int, int]]:
        """(position, required type) of each float input: Resize's scales stay FP32."""
        formal: Any = ()
        if node.domain in ("", "ai.onnx"):
            formal = defs.get_schema(node.op_type, self.opset, "").inputs
        found = []
        for position, name in enumerate(node.input):
            if name in self.float_values:
                last = len(formal) - 1
                follows = (
                    not formal or formal[min(position, last)].type_str == formal[0].type_str
                )  # the first input's type
                found.append((position, kind if follows else FLOAT))
        return found

    def _as(self, name: str, kind: int) -> str:
        """The name of the value in that type: its own, or that of a Cast shared by all readers."""
        if self.now[name] == kind:
            return name
        if (name, kind) not in self.made:
            new = f"{name}_{'fp16' if kind == HALF else 'fp32'}"
            if name in self.weights:
                self.weights[new] = _rounded(self.weights[name], new)
            else:
                self.nodes.append(helper.make_node("Cast", [name], [new], to=kind))
            self.made[name, kind] = new
        return self.made[name, kind]

    def _round_output(self, name: str) -> None:
        inner = f"{name}_fp32"
        for node in self.nodes:
            node.input[:] = [inner if n == name else n for n in node.input]
            node.output[:] = [inner if n == name else n for n in node.output]
        self.nodes.append(helper.make_node("Cast", [inner], [name], to=HALF))


def _rounded(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= _LARGEST:
        raise ExportError(
            f"the weight {tensor.name} does not fit into FP16",
            expected=f"magnitudes up to {_LARGEST:g}",
            found=f"{largest:g}",
            fix="leave out --precision fp16 for this checkpoint",
        )
    return numpy_helper.from_array(values.astype(np.float16), name)


def value_types(graph: onnx.GraphProto) -> dict[str, int]:
    """The element type (onnx.TensorProto) of every value."""
    found = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        found[value.name] = value.type.tensor_type.elem_type
    return found


def _opset(model: onnx.ModelProto) -> int:
    return next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
