"""ONNX graphs of a few nodes, and the types in any graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hsnet_trt.export.precision.fp16 import (
    value_types,
)

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    return value_types(inferred.graph)


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
