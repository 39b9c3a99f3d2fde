"""Nodes for what is not in the paper, appended to the logits of `match` in any lowering.

The lowerings do not depend on them, and a graph without them is unchanged. Maps are resized by
products with constant matrices, so that no number of queries or supports is fixed in the graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from hsnet_trt.export.graphs.lowering import Grid, interpolation
from hsnet_trt.export.graphs.onnx_writer import GraphWriter
from hsnet_trt.model.correlation import EPSILON
from hsnet_trt.runtime.matching.graphs import FEATURES
from hsnet_trt.runtime.matching.packing import CONTRASTS


def add_contrast(match: onnx.ModelProto, weight: float, grids: Sequence[Grid]) -> None:
    """Add the background contrast to the foreground logits of an exported `match`, in place.

    The vectors of the supports come in as `c3` and `c4` [S,1,C,1].

    Args:
        match: inputs `f2`, `f3`, `f4` [B,L,C,row] and any form of supports, output `logits`
            [B,S,2,2*h2,2*w2].
        weight: of the mean of the two levels.
        grids: (h, w) of levels 2, 3, 4.
    """
    features = {value.name: value for value in match.graph.input}
    plane = _plane(grids)
    write = GraphWriter("contrast_")
    maps = []
    for vectors, grid in zip(CONTRASTS, grids[1:], strict=True):
        source = features[vectors.replace("c", "f")]
        channels = source.type.tensor_type.shape.dim[2].dim_value
        kind = source.type.tensor_type.elem_type
        match.graph.input.append(
            helper.make_tensor_value_info(vectors, kind, ["S", 1, channels, 1])
        )
        unit = _unit(write, _last_layer(write, source.name), axis=1)
        rows = write.op("Reshape", vectors, write.constant([1, -1, channels]))
        product = write.op("MatMul", rows, unit)  # [B,S,row]
        maps.append(_resized(write, _on_grid(write, product, grid), grid, plane))
    mean = write.op("Add", *maps)  # halved with the weight
    _raise(match.graph, write, mean, weight / 2, "logits_without_contrast")


def add_self_support(match: onnx.ModelProto, weight: float, grids: Sequence[Grid]) -> None:
    """Add self-support to the foreground logits of an exported `match`, in place.

    Sums over positions and channels are products and ReduceSums, which stay float32 islands in
    FP16, because the sums are large.

    Args:
        match: as `add_contrast` takes and leaves it.
        weight: of the mean of the two levels.
        grids: (h, w) of levels 2, 3, 4.
    """
    plane = _plane(grids)
    write = GraphWriter("self_support_")
    before = "logits_without_self_support"
    ground, thing = (
        write.op("Gather", before, write.constant(np.int64(side)), axis=2) for side in (0, 1)
    )
    found = write.op("Sigmoid", write.op("Sub", thing, ground))  # [B,S,*plane]
    maps = [
        _own_contrast(write, found, features, grid, plane)
        for features, grid in zip(FEATURES[1:], grids[1:], strict=True)
    ]
    mean = write.op("Add", *maps)  # halved with the weight
    _raise(match.graph, write, mean, weight / 2, before)


def _own_contrast(write: GraphWriter, found: str, features: str, grid: Grid, plane: Grid) -> str:
    """The contrast of one level to the found object [B,S,*plane] and to its rest, [B,S,*plane]."""
    count = grid[0] * grid[1]
    small = _resized(write, found, plane, grid)
    small = write.op("Reshape", small, write.constant([0, 0, 1, count]))
    ends = (write.constant([n]) for n in (0, count, 2))
    last = write.op("Slice", _last_layer(write, features), *ends)  # [B,C,h*w]
    shown = write.op("Unsqueeze", last, write.constant([1]))
    one = write.constant(np.float32(1))
    vectors, shares = [], []
    for side in (small, write.op("Sub", one, small)):  # [B,S,1,h*w]
        total = write.op("Mul", shown, side)
        total = write.op("ReduceSum", total, write.constant([3]), keepdims=1)
        vectors.append(_unit(write, total, axis=2))  # [B,S,C,1]
        share = write.op("ReduceSum", side, write.constant([3]), keepdims=1)
        shares.append(write.op("Min", share, one))
    apart = write.op("Mul", write.op("Sub", *vectors), write.op("Mul", *shares))
    unit = write.op("Unsqueeze", _unit(write, last, axis=1), write.constant([1]))
    contrast = write.op("ReduceSum", write.op("Mul", unit, apart), write.constant([2]), keepdims=0)
    return _resized(write, _on_grid(write, contrast, grid), grid, plane)


def _plane(grids: Sequence[Grid]) -> Grid:
    return 2 * grids[0][0], 2 * grids[0][1]


def _last_layer(write: GraphWriter, features: str) -> str:
    """[B,C,row] of features [B,L,C,row]."""
    last = write.op("Gather", features, write.constant([-1]), axis=1)
    return write.op("Squeeze", last, write.constant([1]))


def _unit(write: GraphWriter, vectors: str, axis: int) -> str:
    squares = write.op("Mul", vectors, vectors)
    norm = write.op("Sqrt", write.op("ReduceSum", squares, write.constant([axis]), keepdims=1))
    return write.op("Div", vectors, write.op("Add", norm, write.constant(np.float32(EPSILON))))


def _on_grid(write: GraphWriter, row: str, grid: Grid) -> str:
    """[B,S,*grid] of [B,S,row], which may be padded."""
    ends = (write.constant([n]) for n in (0, grid[0] * grid[1], 2))
    return write.op("Reshape", write.op("Slice", row, *ends), write.constant([0, -1, *grid]))


def _resized(write: GraphWriter, maps: str, now: Grid, wanted: Grid) -> str:
    """Maps [B,S,*now] bilinearly, with aligned corners, [B,S,*wanted]."""
    down, across = (interpolation(*pair) for pair in zip(now, wanted, strict=True))
    tall = write.op("MatMul", write.constant(down.astype(np.float32)), maps)
    return write.op("MatMul", tall, write.constant(across.T.astype(np.float32)))


def _raise(
    graph: onnx.GraphProto, write: GraphWriter, map_: str, weight: float, before: str
) -> None:
    """End the graph with `map_` added to the foreground logits, which are renamed to `before`."""
    both = np.array([0, weight], np.float32).reshape(2, 1, 1)
    shift = write.op("Mul", write.op("Unsqueeze", map_, write.constant([2])), write.constant(both))
    write.op("Add", before, shift)
    write.nodes[-1].output[0] = "logits"
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [before if name == "logits" else name for name in names]
    graph.node.extend(write.nodes)
    graph.initializer.extend(write.constants)
