"""ONNX models of one correlation, for parsers and runtimes."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from hsnet_trt.trt_plugins import onnx_op
from hsnet_trt.trt_plugins.sizes import CorrelationSizes, row_length

ODD = CorrelationSizes(7, 5, 9, 6, 2)
ONNX_TYPE = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


def model_of(sizes: CorrelationSizes, layers: int, channels: int, dtype: str) -> onnx.ModelProto:
    """One node, B and S left open, no function yet."""
    kind, row = ONNX_TYPE[dtype], row_length(sizes.support_positions)
    graph = helper.make_graph(
        [
            onnx_op.correlation_node(
                ("query", "columns", "positions", "counts"), ("full", "pruned"), sizes
            )
        ],
        "correlation",
        [
            helper.make_tensor_value_info(
                "query", kind, ["B", layers, channels, row_length(sizes.query_positions)]
            ),
            helper.make_tensor_value_info("columns", kind, ["S", layers, channels, row]),
            helper.make_tensor_value_info("positions", TensorProto.INT32, ["S", row]),
            helper.make_tensor_value_info("counts", TensorProto.INT32, ["S"]),
        ],
        [helper.make_tensor_value_info(name, kind, [None] * 4) for name in ("full", "pruned")],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("hsnet", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)
