"""`match` with its correlations computed by `hsnet::HyperCorrelation`, on packed supports.

PyTorch's exporter cannot write a custom operator with two outputs, so the part after the
correlations is exported alone, and the op's nodes are put before it. The op writes both layouts
that the first center-pivot layer of the `conv2d` lowering reads, so nothing is permuted in between.
The letters of the dimensions are explained in `export.graphs`.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from hsnet_trt.errors import ExportError
from hsnet_trt.export.graphs.lowering import Grid, Run
from hsnet_trt.export.graphs.lowering_conv2d import MatchConv2d
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.runtime.matching.graphs import FEATURES
from hsnet_trt.runtime.matching.packing import compress, side_by_side
from hsnet_trt.trt_plugins.onnx_op import add_function, correlation_node
from hsnet_trt.trt_plugins.sizes import CorrelationSizes, row_length

# In the order of the module's arguments.
CORRELATION_INPUTS = ("full2", "pruned2", "full3", "pruned3", "full4", "pruned4")


class AfterCorrelation(nn.Module):
    """`MatchConv2d` after the correlations: `CORRELATION_INPUTS` -> logits [P,2,2*h2,2*w2].

    `full` are [P,Q,L,hs,ws] and `pruned` [P,M',L,hq,wq], as the op writes them, with a separate
    dimension of pairs, which `forward` flattens first.
    """

    def __init__(self, model: HSNet, size: Grid) -> None:
        super().__init__()
        self.match = MatchConv2d(model, size)
        blocks = (self.match.squeeze2, self.match.squeeze3, self.match.squeeze4)
        self.sizes = [CorrelationSizes(*b.grid, *b.grid, b.first.stride) for b in blocks]
        self.layers = model.backbone.layers

    def forward(
        self,
        full2: Tensor,
        pruned2: Tensor,
        full3: Tensor,
        pruned3: Tensor,
        full4: Tensor,
        pruned4: Tensor,
    ) -> Tensor:
        """`full` [P,Q,L,hs,ws] and `pruned` [P,M',L,hq,wq] of levels 2, 3, 4 -> [P,2,2*h2,2*w2]."""
        match = self.match
        return match.mixed(
            match.squeeze2.squeeze(full2.flatten(0, 1), pruned2.flatten(0, 1)),
            match.squeeze3.squeeze(full3.flatten(0, 1), pruned3.flatten(0, 1)),
            match.squeeze4.squeeze(full4.flatten(0, 1), pruned4.flatten(0, 1)),
        )

    def shapes(self, pairs: int) -> list[tuple[int, ...]]:
        """The shapes of `CORRELATION_INPUTS`."""
        found: list[tuple[int, ...]] = []
        for of, layers in zip(self.sizes, self.layers, strict=True):
            found.append((pairs, of.query_positions, layers, of.support_h, of.support_w))
            found.append((pairs, of.pruned_h * of.pruned_w, layers, of.query_h, of.query_w))
        return found


def taking_columns(match: Run) -> Run:
    """Wrap a `match` of this form so that it takes the outputs of `support`."""

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        queries = {name: inputs[name] for name in FEATURES}
        return match({**queries, **side_by_side(compress(inputs))})

    return run


def put_correlations_before(
    tail: onnx.ModelProto, module: AfterCorrelation, channels: tuple[int, ...]
) -> onnx.ModelProto:
    """Complete an exported `AfterCorrelation` to `match`: add the op's three nodes and function.

    Args:
        tail: inputs `CORRELATION_INPUTS`, output `logits` [P,2,2*h2,2*w2].
        module: the module it was exported from.
        channels: of the features of levels 2, 3, 4.

    Returns:
        a copy with the inputs `f2`, `f3`, `f4` [B,L,C,row] of the tail's type; `s`, `a` and `n`
        2, 3, 4, as `runtime.matching.packing.side_by_side` makes them; and the output `logits`
        [B,S,2,2*h2,2*w2].

    Raises:
        ExportError: the tail does not begin as expected, or is neither float32 nor float16.
    """
    result = onnx.ModelProto()
    result.CopyFrom(tail)
    graph = result.graph
    kind = graph.input[0].type.tensor_type.elem_type
    joined = _drop_joins(graph)
    nodes: list[onnx.NodeProto] = []
    queries, supports, places, counts = [], [], [], []
    for level, (of, layers, depth) in enumerate(
        zip(module.sizes, module.layers, channels, strict=True), start=2
    ):
        query_row, row = row_length(of.query_positions), row_length(of.support_positions)
        queries.append(_value(f"f{level}", kind, ["B", layers, depth, query_row]))
        supports.append(_value(f"s{level}", kind, ["S", layers, depth, row]))
        places.append(_value(f"a{level}", TensorProto.INT32, ["S", row]))
        counts.append(_value(f"n{level}", TensorProto.INT32, ["S"]))
        inputs = (f"f{level}", *(f"{letter}{level}" for letter in "san"))
        outputs = (joined[f"full{level}"], joined[f"pruned{level}"])
        nodes.append(correlation_node(inputs, outputs, of, name=f"correlation{level}"))
    old = graph.output[0]
    plane = [dim.dim_value for dim in old.type.tensor_type.shape.dim][1:]
    pairs_apart = [
        helper.make_node("Shape", ["f2"], ["queries"], start=0, end=1),
        helper.make_node("Shape", ["s2"], ["supports"], start=0, end=1),
        helper.make_node("Concat", ["queries", "supports", "plane"], ["apart"], axis=0),
        helper.make_node("Reshape", ["pairs", "apart"], ["logits"]),
    ]
    graph.initializer.append(numpy_helper.from_array(np.array(plane, np.int64), "plane"))
    for node in graph.node:
        node.output[:] = ["pairs" if name == old.name else name for name in node.output]
    rest = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*nodes, *rest, *pairs_apart])
    graph.input.extend([*queries, *supports, *places, *counts])
    graph.output.append(_value("logits", kind, ["B", "S", *plane]))
    types = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}
    return add_function(result, types.get(kind, TensorProto.DataType.Name(kind).lower()))


def _drop_joins(graph: onnx.GraphProto) -> dict[str, str]:
    """Remove the reshapes that flatten pairs and positions; returns input -> reshaped tensor."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    joined = {}
    for value in graph.input:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        readers = [node for node in graph.node if value.name in node.input]
        to = [constants.get(node.input[1]) for node in readers if node.op_type == "Reshape"]
        if len(readers) != 1 or len(to) != 1 or to[0] is None:
            break
        if numpy_helper.to_array(to[0]).tolist() != [-1, *shape[2:]]:
            break
        joined[value.name] = readers[0].output[0]
        graph.node.remove(readers[0])
    if tuple(joined) != CORRELATION_INPUTS:
        raise ExportError(
            "the exporter wrote something else around the correlations than was expected",
            expected=f"one reshape of each of {', '.join(CORRELATION_INPUTS)}",
            found=", ".join(joined) or "none",
            fix="use a PyTorch release from setup.cfg's range",
        )
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return joined


def _value(name: str, kind: int, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
