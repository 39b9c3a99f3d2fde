"""The background contrast in `match`: nodes that are put behind the logits of any lowering.

A lowering knows nothing of it, and a graph without it is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from hsnet_trt.export.graphs.lowering import Grid, interpolation
from hsnet_trt.export.graphs.onnx_writer import GraphWriter
from hsnet_trt.model.correlation import EPSILON
from hsnet_trt.runtime.matching.packing import CONTRASTS


def add_contrast(match: onnx.ModelProto, weight: float, grids: Sequence[Grid]) -> None:
    """Add the background contrast to the foreground logits of an exported `match`, in place.

    The vectors of the supports come in as `c3` and `c4` [S,1,C,1]. Their products with the
    normalised features of the queries are resized by products with constant matrices, so that no
    number of queries or supports has to be written down.

    Args:
        match: inputs `f2`, `f3`, `f4` [B,L,C,row] and any form of supports, output `logits`
            [B,S,2,2*h2,2*w2].
        weight: of the mean of the two levels.
        grids: (h, w) of levels 2, 3, 4.
    """
    graph = match.graph
    features = {value.name: value for value in graph.input}
    plane = (2 * grids[0][0], 2 * grids[0][1])
    write = GraphWriter("contrast_")
    maps, added = [], []
    for vectors, grid in zip(CONTRASTS, grids[1:], strict=True):
        source = features[vectors.replace("c", "f")]
        channels = source.type.tensor_type.shape.dim[2].dim_value
        kind = source.type.tensor_type.elem_type
        added.append(helper.make_tensor_value_info(vectors, kind, ["S", 1, channels, 1]))
        maps.append(_map(write, source.name, vectors, channels, grid, plane))
    mean = write.op("Add", *maps)  # halved with the weight
    both = np.array([0, weight / 2], np.float32).reshape(2, 1, 1)
    shift = write.op("Mul", write.op("Unsqueeze", mean, write.constant([2])), write.constant(both))
    write.op("Add", "logits_without_contrast", shift)
    write.nodes[-1].output[0] = "logits"
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = ["logits_without_contrast" if name == "logits" else name for name in names]
    graph.node.extend(write.nodes)
    graph.initializer.extend(write.constants)
    graph.input.extend(added)


def _map(
    write: GraphWriter, features: str, vectors: str, channels: int, grid: Grid, plane: Grid
) -> str:
    """The contrast of one level, [B,S,*plane]."""
    last = write.op("Gather", features, write.constant([-1]), axis=1)
    last = write.op("Squeeze", last, write.constant([1]))  # [B,C,row]
    squares = write.op("Mul", last, last)
    norm = write.op("Sqrt", write.op("ReduceSum", squares, write.constant([1]), keepdims=1))
    unit = write.op("Div", last, write.op("Add", norm, write.constant(np.float32(EPSILON))))
    rows = write.op("Reshape", vectors, write.constant([1, -1, channels]))
    product = write.op("MatMul", rows, unit)  # [B,S,row]
    ends = (write.constant([n]) for n in (0, grid[0] * grid[1], 2))
    small = write.op("Reshape", write.op("Slice", product, *ends), write.constant([0, -1, *grid]))
    down, across = (interpolation(*pair) for pair in zip(grid, plane, strict=True))
    tall = write.op("MatMul", write.constant(down.astype(np.float32)), small)
    return write.op("MatMul", tall, write.constant(across.T.astype(np.float32)))
