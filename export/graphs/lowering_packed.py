"""`packed`: match only the support positions under the masks, for CPUs, where gathering is cheap.

Support positions outside the mask are exactly zero, and so is their correlation. A window of the
first support convolution that touches no position under the mask gives only its bias, the same at
every query position. The supports are therefore packed (`runtime.matching.packing`): the positions
under the masks, the windows that touch one, and for each shot one window that stands for all the
others. The cost of the correlation and of the first layer is then proportional to the area of the
mask; the result is the same as without packing, for any mask. The supports of several shots are
concatenated in one product.

Everything is support-major, with the query positions innermost (letters: see `export.graphs`): a
support convolution gathers rows into windows and multiplies them by the weights, the query
convolution reads the rows in place, and nothing is permuted.

The graph is written node by node: it is smaller than what PyTorch's exporter would write, and is
written in a second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import nn

from hsnet_trt.export.graphs.lowering import PYRAMID, Grid, Run, interpolation, layers_of, strided
from hsnet_trt.export.graphs.lowering_conv2d import DENSE_LIMIT
from hsnet_trt.export.graphs.packed_layers import (
    PackedWriter,
    dense_layer,
    group_norm,
    over_grid,
    over_windows,
)
from hsnet_trt.model.correlation import EPSILON
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.runtime.bundle.manifest import Growth, PackedLevel
from hsnet_trt.runtime.matching.graphs import FEATURES
from hsnet_trt.runtime.matching.packing import compress, pack
from hsnet_trt.trt_plugins.sizes import row_length


def packing_of(model: HSNet, size: Grid) -> tuple[PackedLevel, PackedLevel, PackedLevel]:
    """The packing of a network's supports at that size, for levels 2, 3, 4."""
    learner = model.hpn_learner
    blocks = (learner.encoder_layer2, learner.encoder_layer3, learner.encoder_layer4)
    level2, level3, level4 = (
        PackedLevel(grid, conv.conv2.kernel_size[0], conv.stride)
        for grid, block in zip(model.grids(size), blocks, strict=True)
        for conv, _ in layers_of(block)[:1]
    )
    return level2, level3, level4


def most_packed(packing: Sequence[PackedLevel]) -> dict[str, Growth]:
    """The largest dimensions R and T of a packed `match`, with masks that cover everything."""
    most = {}
    for level, of in zip(PYRAMID, packing, strict=False):
        windows = strided(of.grid, of.stride)
        most[f"R{level}"] = Growth(constant=1, per_support=of.grid[0] * of.grid[1])
        most[f"T{level}"] = Growth(per_support=windows[0] * windows[1])
    return most


def taking_packed(match: Run, packing: Sequence[PackedLevel]) -> Run:
    """Wrap a packed `match` so that it takes the outputs of `support`."""

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        queries = {name: inputs[name] for name in FEATURES}
        return match({**queries, **pack(compress(inputs), packing)})

    return run


def write_packed_match(model: HSNet, size: Grid, opset: int, ir_version: int) -> onnx.ModelProto:
    """`match` on packed supports, as ONNX.

    Its inputs, by level 2, 3, 4: `f` [B,L,C,row], raw features of the queries; and `s` [L,R,C],
    `w` int64 [T,k*k] and `p` int64 [S,M'], as `runtime.matching.packing.pack` makes them. Its
    output: `logits` [B,S,2,2*h2,2*w2].
    """
    learner, grids = model.hpn_learner, model.grids(size)
    blocks = (learner.encoder_layer2, learner.encoder_layer3, learner.encoder_layer4)
    write = PackedWriter()
    (x2, n2), (x3, n3), (x4, n4) = (
        _squeeze(write, level, block, grid)
        for level, block, grid in zip(PYRAMID, blocks, grids, strict=True)
    )
    x3, n3 = _mix(write, learner.encoder_layer4to3, (x3, n3, grids[1]), (x4, n4, grids[2]))
    x2, n2 = _mix(write, learner.encoder_layer3to2, (x2, n2, grids[0]), (x3, n3, grids[1]))
    x = write.op("ReduceMean", x2, write.constant([1]), keepdims=0)  # [P,C,Q]
    x = write.shaped(x, [0, 0, *grids[0]])
    first, second = (
        [conv for conv in part if isinstance(conv, nn.Conv2d)]
        for part in (learner.decoder1, learner.decoder2)
    )
    for conv in first:
        x = write.op("Relu", write.conv(x, conv))
    plane = (2 * grids[0][0], 2 * grids[0][1])
    x = write.op("Relu", write.conv(write.resize(x, plane), second[0]))
    x = write.conv(x, second[1])
    pairs = [write.op("Shape", name, start=0, end=1) for name in ("f2", "p2")]
    shape = write.op("Concat", *pairs, write.constant([2, *plane]), axis=0)
    logits = write.op("Reshape", x, shape)
    write.nodes[-1].output[0] = "logits"
    assert logits
    return write.model(
        _inputs(model, size),
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", "S", 2, *plane])],
        opset,
        ir_version,
    )


def _inputs(model: HSNet, size: Grid) -> list[onnx.ValueInfoProto]:
    backbone = model.backbone
    queries, supports, windows, places = [], [], [], []
    for level, layers, channels, of in zip(
        PYRAMID, backbone.layers, backbone.channels, packing_of(model, size), strict=True
    ):
        positions, outputs = np.prod(of.grid), np.prod(strided(of.grid, of.stride))
        row = row_length(int(positions))
        queries.append(_value(f"f{level}", ["B", layers, channels, row]))
        supports.append(_value(f"s{level}", [layers, f"R{level}", channels]))
        windows.append(_value(f"w{level}", [f"T{level}", of.kernel**2], TensorProto.INT64))
        places.append(_value(f"p{level}", ["S", int(outputs)], TensorProto.INT64))
    return [*queries, *supports, *windows, *places]


def _value(name: str, shape: list[int | str], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _squeeze(write: PackedWriter, level: int, block: nn.Module, grid: Grid) -> tuple[str, Grid]:
    """Correlation and squeeze block of one level: its output [P,M,C,Q], and the grid of M."""
    (conv1, norm1), (conv2, norm2), (conv3, norm3) = layers_of(block)
    rows = _correlation(write, level, grid)
    x = over_windows(write, level, rows, conv1, norm1, grid)
    once = strided(grid, conv1.stride)
    twice = strided(once, conv2.stride)
    x = group_norm(write, over_grid(write, x, conv2, grid, once, f"p{level}"), norm2)
    x = group_norm(write, over_grid(write, x, conv3, grid, twice), norm3)
    return x, strided(twice, conv3.stride)


def _correlation(write: PackedWriter, level: int, grid: Grid) -> str:
    """The clamped cosine similarities [B,L*R,Q]."""
    zero, end, last = (write.constant([n]) for n in (0, grid[0] * grid[1], 3))
    query = write.op("Slice", f"f{level}", zero, end, last)
    squares = write.op("Mul", query, query)
    norm = write.op("Sqrt", write.op("ReduceSum", squares, write.constant([2]), keepdims=1))
    norm = write.op("Add", norm, write.constant(np.float32(EPSILON)))
    product = write.op("MatMul", f"s{level}", write.op("Div", query, norm))  # [B,L,R,Q]
    return write.shaped(write.op("Relu", product), [0, -1, grid[0] * grid[1]])


def _mix(
    write: PackedWriter,
    block: nn.Module,
    fine: tuple[str, Grid, Grid],
    coarse: tuple[str, Grid, Grid],
) -> tuple[str, Grid]:
    """Add the coarser level and mix: [P,M,C,Q], and the grid of M.

    `fine` and `coarse`: [P,M,C,Q], the grid of M and that of Q.
    """
    (x, fine_support, query), (y, coarse_support, coarse_query) = fine, coarse
    support = tuple(max(pair) for pair in zip(fine_support, coarse_support, strict=True))
    grid = (support[0], support[1])
    convs = layers_of(block)
    channels, positions = convs[0][0].conv1.in_channels, query[0] * query[1]
    count = coarse_support[0] * coarse_support[1]
    y = write.resize(write.shaped(y, [-1, channels, *coarse_query]), query)
    y = write.shaped(y, [-1, count, channels, positions])
    x, y = (
        _fit(write, part, of, grid, channels, positions)
        for part, of in ((x, fine_support), (y, coarse_support))
    )
    x = write.op("Add", x, y)
    for conv, norm in convs:
        dense = grid[0] * grid[1] <= DENSE_LIMIT
        layer = dense_layer if dense else over_grid
        x = group_norm(write, layer(write, x, conv, query, grid), norm)
    return x, grid


def _fit(
    write: PackedWriter, x: str, support: Grid, wanted: Grid, channels: int, positions: int
) -> str:
    """Resize the support grid if rounding made the two levels' grids differ."""
    if support == wanted:
        return x
    rows, columns = (interpolation(*pair) for pair in zip(support, wanted, strict=True))
    matrix = np.kron(rows, columns).astype(np.float32)
    flat = write.shaped(x, [0, 0, channels * positions])
    return write.shaped(
        write.op("MatMul", write.constant(matrix), flat), [0, 0, channels, positions]
    )
