"""FP16 emulated on a CPU: FP32 arithmetic, rounded to FP16 after every FP16 operation.

ONNX Runtime on a CPU runs FP16 graphs in FP32 and removes many of the casts, so its results never
overflow and prove nothing. Here every operation of an FP16 graph computes in FP32, as tensor cores
accumulate, and explicit Cast nodes, which ONNX Runtime keeps, round its output to FP16 and back.
Values beyond FP16's range become infinite, small ones lose digits.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from hsnet_trt.errors import ExportError
from hsnet_trt.export.precision.fp16 import FLOAT, HALF, MOVES, value_types
from hsnet_trt.trt_plugins.onnx_op import correlation_nodes, inline_function

# Exact in FP16: their output needs no rounding if their input is FP16.
_EXACT = MOVES | {"Abs", "Max", "MaxPool", "Min", "Neg", "Relu"}


def emulated(model: onnx.ModelProto) -> onnx.ModelProto:
    """The FP32 graph that computes what an FP16 graph would on a GPU.

    Args:
        model: a result of `fp16.to_fp16`, or an INT8 graph whose other parts are FP16. For the
            correlation plugin, the op's function of native operations is used.

    Returns:
        a graph for ONNX Runtime with the same names of inputs and outputs: float32, rounded.

    Raises:
        ExportError: a node makes an FP16 constant; constants must be initialisers.
    """
    result = onnx.ModelProto()
    result.CopyFrom(inline_function(model) if correlation_nodes(model) else model)
    graph = result.graph
    types = value_types(shape_inference.infer_shapes(result, strict_mode=True).graph)
    half = {name for name, kind in types.items() if kind == HALF}
    rounded = {v.name: f"{v.name}__rounded" for v in graph.input if v.name in half}
    nodes = [node for name, new in rounded.items() for node in _round(name, new)]
    for node in graph.node:
        node.input[:] = [rounded.get(name, name) for name in node.input]
        nodes += _emulate(node, half)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == HALF:
            value.type.tensor_type.elem_type = FLOAT
    weights = [_widened(tensor) for tensor in graph.initializer]
    del graph.initializer[:], graph.node[:], graph.value_info[:]
    graph.initializer.extend(weights)
    graph.node.extend(nodes)
    onnx.checker.check_model(result, full_check=True)
    return result


def _emulate(node: onnx.NodeProto, half: set[str]) -> Iterator[onnx.NodeProto]:
    if not half.intersection(node.output):
        if node.op_type == "Cast" and half.intersection(node.input):
            to = helper.get_attribute_value(node.attribute[0])
            if to == FLOAT:  # nothing to do: its input is FP32 in the emulated graph
                yield helper.make_node("Identity", node.input, node.output)
                return
        yield node
    elif node.op_type == "Cast":
        yield from _round(node.input[0], node.output[0])
    elif node.op_type in ("Constant", "ConstantOfShape"):
        raise ExportError(
            f"the FP16 graph makes a constant by a node {node.op_type}",
            expected="constants as initialisers, as constant folding leaves them",
            found=", ".join(node.output),
        )
    elif node.op_type in _EXACT:
        yield node
    else:
        outputs = list(node.output)
        node.output[:] = [f"{name}__exact" for name in outputs]
        yield node
        for name in outputs:
            yield from _round(f"{name}__exact", name)


def _round(name: str, new: str) -> Iterator[onnx.NodeProto]:
    yield helper.make_node("Cast", [name], [f"{new}__half"], to=HALF)
    yield helper.make_node("Cast", [f"{new}__half"], [new], to=FLOAT)


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type != HALF:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
