"""`packed`: match only the support positions under the masks, where gathering is cheap (on CPUs).

Support positions outside the mask are exactly zero, so is their correlation, and a window of the
first support convolution that touches none of them gives its bias alone, the same at every query
position. The supports are therefore packed (`runtime.matching.packing`): the positions under the
masks, the windows that touch one, and for each shot one window that stands for all the others. The
cost of the correlation and of the first layer is then proportional to the area of the mask; the
result is the same as without packing, for any mask. The supports of several shots are concatenated
in one product.

Everything is support-major, with the query positions innermost (letters: see `export.graphs`): a
support convolution gathers rows into windows and multiplies them by the weights, the query
convolution reads the rows in place, and nothing is permuted.

The graph is written node by node: it is smaller than what PyTorch's exporter would write, and
takes a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import Tensor, nn

from hsnet_trt.export.graphs.lowering import PYRAMID, Grid, interpolation, layers_of, strided
from hsnet_trt.export.graphs.lowering_conv2d import DENSE_LIMIT, full_mix
from hsnet_trt.export.graphs.onnx_writer import GraphWriter
from hsnet_trt.export.graphs.support_windows import centres, windows_by_shape
from hsnet_trt.model.center_pivot import CenterPivotConv4d
from hsnet_trt.model.correlation import EPSILON
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.learner import GROUPS
from hsnet_trt.runtime.bundle.manifest import Growth, PackedLevel
from hsnet_trt.runtime.matching.graphs import FEATURES
from hsnet_trt.runtime.matching.packing import compress, pack
from hsnet_trt.trt_plugins.sizes import row_length

Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def packing_of(model: HSNet, size: Grid) -> tuple[PackedLevel, PackedLevel, PackedLevel]:
    """How the supports of that network are packed at that size, by level."""
    learner = model.hpn_learner
    blocks = (learner.encoder_layer2, learner.encoder_layer3, learner.encoder_layer4)
    level2, level3, level4 = (
        PackedLevel(grid, conv.conv2.kernel_size[0], conv.stride)
        for grid, block in zip(model.grids(size), blocks, strict=True)
        for conv, _ in layers_of(block)[:1]
    )
    return level2, level3, level4


def most_packed(packing: Sequence[PackedLevel]) -> dict[str, Growth]:
    """How large the dimensions R and T of a packed `match` become when masks cover everything."""
    most = {}
    for level, of in zip(PYRAMID, packing, strict=False):
        windows = strided(of.grid, of.stride)
        most[f"R{level}"] = Growth(constant=1, per_support=of.grid[0] * of.grid[1])
        most[f"T{level}"] = Growth(per_support=windows[0] * windows[1])
    return most


def taking_packed(match: Run, packing: Sequence[PackedLevel]) -> Run:
    """Wrap a packed `match` so that it takes the supports as `support` encodes them."""

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
    write = _Writer()
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


class _Writer(GraphWriter):
    """With what this network uses often."""

    def shaped(self, x: str, shape: list[int]) -> str:
        """Reshape; 0 keeps a dimension, -1 stands for the remaining elements."""
        return self.op("Reshape", x, self.constant(shape))

    def conv(self, x: str, conv: nn.Conv2d, bias: Tensor | None = None) -> str:
        """A convolution of [n,C,h,w] with its padding, its bias or another."""
        bias = conv.bias if bias is None else bias
        assert bias is not None
        reach = conv.kernel_size[0] // 2
        return self.op("Conv", x, self.constant(conv.weight), self.constant(bias), pads=[reach] * 4)

    def resize(self, x: str, size: Grid) -> str:
        """[n,C,h,w] -> [n,C,*size], bilinear with aligned corners."""
        return self.op(
            "Resize",
            x,
            "",
            "",
            self.constant(size),
            axes=[2, 3],
            mode="linear",
            coordinate_transformation_mode="align_corners",
        )

    def mean(self, x: str, axis: int, keep: bool = True) -> str:
        return self.op("ReduceMean", x, self.constant([axis]), keepdims=int(keep))

    def rescale(self, centred: str, variance: str, norm: nn.GroupNorm, channels: list[int]) -> str:
        """The end of a group norm, and ReLU: by the variance, shaped as `channels`, and weights."""
        root = self.op("Sqrt", self.op("Add", variance, self.constant(np.float32(norm.eps))))
        weight = self.constant(norm.weight.reshape(channels))
        bias = self.constant(norm.bias.reshape(channels))
        x = self.op("Mul", centred, self.op("Div", weight, root))
        return self.op("Relu", self.op("Add", x, bias))


def _squeeze(write: _Writer, level: int, block: nn.Module, grid: Grid) -> tuple[str, Grid]:
    """Correlation and squeeze block of one level: its output [P,M,C,Q], and the grid of M."""
    (conv1, norm1), (conv2, norm2), (conv3, norm3) = layers_of(block)
    rows = _correlation(write, level, grid)
    x = _over_windows(write, level, rows, conv1, norm1, grid)
    once = strided(grid, conv1.stride)
    twice = strided(once, conv2.stride)
    x = _group_norm(write, _over_grid(write, x, conv2, grid, once, f"p{level}"), norm2)
    x = _group_norm(write, _over_grid(write, x, conv3, grid, twice), norm3)
    return x, strided(twice, conv3.stride)


def _correlation(write: _Writer, level: int, grid: Grid) -> str:
    """The clamped cosine similarities [B,L*R,Q]."""
    zero, end, last = (write.constant([n]) for n in (0, grid[0] * grid[1], 3))
    query = write.op("Slice", f"f{level}", zero, end, last)
    squares = write.op("Mul", query, query)
    norm = write.op("Sqrt", write.op("ReduceSum", squares, write.constant([2]), keepdims=1))
    norm = write.op("Add", norm, write.constant(np.float32(EPSILON)))
    product = write.op("MatMul", f"s{level}", write.op("Div", query, norm))  # [B,L,R,Q]
    return write.shaped(write.op("Relu", product), [0, -1, grid[0] * grid[1]])


def _over_windows(
    write: _Writer, level: int, rows: str, conv: CenterPivotConv4d, norm: nn.GroupNorm, query: Grid
) -> str:
    """The first center-pivot layer on every window of w, its norm and ReLU: [B,T,O,Q]."""
    windows, layers = f"w{level}", conv.conv1.in_channels
    weight = conv.conv2.weight.flatten(1)  # [O,L*k*k]
    positions = query[0] * query[1]
    # Row r of layer l is l*R + r.
    count = write.op("Shape", f"s{level}", start=1, end=2)
    first = write.op("Mul", write.constant(np.arange(layers)[:, None]), count)
    at = write.op("Add", write.op("Unsqueeze", windows, write.constant([1])), first)  # [T,L,k*k]
    gathered = write.op("Gather", rows, at, axis=1)  # [B,T,L,k*k,Q]
    gathered = write.shaped(gathered, [0, 0, weight.shape[1], positions])
    over_support = write.op("MatMul", write.constant(weight), gathered)  # [B,T,O,Q]
    middle = write.constant(np.array(conv.conv2.kernel_size[0] ** 2 // 2))
    centre = write.op("Gather", at, middle, axis=2)
    planes = write.op("Gather", rows, centre, axis=1)  # [B,T,L,Q]
    over_query = write.conv(
        write.shaped(planes, [-1, layers, *query]), conv.conv1, _both_biases(conv)
    )
    over_query = write.op("Reshape", over_query, write.op("Shape", over_support))
    return _group_norm_of_windows(write, level, write.op("Add", over_query, over_support), norm)


def _group_norm_of_windows(write: _Writer, level: int, x: str, norm: nn.GroupNorm) -> str:
    """Group norm and ReLU of [B,T,C,Q], each window weighted by how many places share it.

    The statistics of a shot are taken over all its places; each window belongs to one shot.
    """
    places, channels = f"p{level}", norm.num_channels
    groups = [0, 0, GROUPS, channels // GROUPS]
    count = [write.op("Shape", places, start=0, end=1), write.op("Shape", f"w{level}", end=1)]
    none = write.op("ConstantOfShape", write.op("Concat", *count, axis=0))
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    ones = write.op("ConstantOfShape", write.op("Shape", places), value=one)
    counts = write.op("ScatterElements", none, places, ones, axis=1, reduction="add")  # [S,T]
    shot = write.op("ArgMax", counts, axis=0, keepdims=0)  # [T]
    share = write.op("Div", counts, write.op("ReduceSum", counts, write.constant([1])))
    group = write.constant(np.arange(channels) // (channels // GROUPS))

    def mean(y: str) -> str:
        """Of each window's shot and each channel's group, [B,T,C,1], summed step by step."""
        y = write.mean(write.shaped(write.mean(y, 3), groups), 3, keep=False)  # [B,T,G]
        of_shots = write.op("MatMul", share, y)  # [B,S,G]
        spread = write.op("Gather", write.op("Gather", of_shots, shot, axis=1), group, axis=2)
        return write.op("Unsqueeze", spread, write.constant([3]))

    centred = write.op("Sub", x, mean(x))
    return write.rescale(centred, mean(write.op("Mul", centred, centred)), norm, [channels, 1])


def _over_grid(
    write: _Writer,
    x: str,
    conv: CenterPivotConv4d,
    query: Grid,
    support: Grid,
    places: str | None = None,
) -> str:
    """A center-pivot layer that computes every window: [P,M',O,Q].

    Args:
        write: the graph.
        x: [P,M,C,Q]; with `places`, the rows [B,T,C,Q] that they index.
        conv: the layer.
        query: the grid of Q.
        support: the grid of M.
        places: the name of the indices [S,M].
    """
    outputs, channels = conv.conv2.out_channels, conv.conv2.in_channels
    positions, count = query[0] * query[1], len(centres(support, conv.stride))
    weight = conv.conv2.weight.permute(0, 2, 3, 1)  # [O,k,k,C]
    parts, order = [], []
    for of in windows_by_shape(support, conv.conv2.kernel_size[0], conv.stride):
        at = write.constant(of.sources)
        if places is not None:
            at = write.op("Gather", places, at, axis=1)
        gathered = write.op("Gather", x, at, axis=1)  # [P,n,k*k,C,Q] or [B,S,n,k*k,C,Q]
        depth = of.sources.shape[1] * channels
        gathered = write.shaped(gathered, [-1, len(of.places), depth, positions])
        part = weight[:, of.rows][:, :, of.columns].flatten(1)
        parts.append(write.op("MatMul", write.constant(part), gathered))  # [P,n,O,Q]
        order += of.places.tolist()
    over_support = write.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    if order != sorted(order):
        over_support = write.op("Gather", over_support, write.constant(np.argsort(order)), axis=1)
    kept = write.constant(centres(support, conv.stride))
    if places is None:
        planes = write.shaped(write.op("Gather", x, kept, axis=1), [-1, channels, *query])
        over_query = write.conv(planes, conv.conv1, _both_biases(conv))
    else:
        # Places without a window of their own share one: its plane is convolved once.
        flat = write.shaped(write.op("Gather", places, kept, axis=1), [-1])
        distinct = write.op("Unique", flat, outputs=3, sorted=1)
        planes = write.shaped(write.op("Gather", x, distinct, axis=1), [-1, channels, *query])
        over_query = write.conv(planes, conv.conv1, _both_biases(conv))
        queries = write.op("Shape", x, start=0, end=1)
        shape = write.op("Concat", queries, write.constant([-1, outputs, positions]), axis=0)
        by_query = write.op("Reshape", over_query, shape)
        over_query = write.op("Gather", by_query, distinct[:-1] + "2", axis=1)
    over_query = write.shaped(over_query, [-1, count, outputs, positions])
    return write.op("Add", over_query, over_support)


def _mix(
    write: _Writer, block: nn.Module, fine: tuple[str, Grid, Grid], coarse: tuple[str, Grid, Grid]
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
        layer = _dense if dense else _over_grid
        x = _group_norm(write, layer(write, x, conv, query, grid), norm)
    return x, grid


def _dense(write: _Writer, x: str, conv: CenterPivotConv4d, query: Grid, support: Grid) -> str:
    """A center-pivot layer on a support so small that every window sees nearly all of it."""
    channels, count, positions = conv.conv1.out_channels, support[0] * support[1], -1
    over_query = write.conv(write.shaped(x, [-1, channels, *query]), conv.conv1, _both_biases(conv))
    over_query = write.shaped(over_query, [-1, count, channels, query[0] * query[1]])
    mix = nn.Conv2d(count * channels, count * channels, 1)
    mix.weight.data = full_mix(conv.conv2.weight.detach(), support)[:, :, None, None]
    whole = write.shaped(x, [0, count * channels, *query])
    over_support = write.op("Conv", whole, write.constant(mix.weight))
    over_support = write.shaped(over_support, [0, count, channels, positions])
    return write.op("Add", over_query, over_support)


def _fit(write: _Writer, x: str, support: Grid, wanted: Grid, channels: int, positions: int) -> str:
    """Resize the support grid where rounding left two levels with different ones."""
    if support == wanted:
        return x
    rows, columns = (interpolation(*pair) for pair in zip(support, wanted, strict=True))
    matrix = np.kron(rows, columns).astype(np.float32)
    flat = write.shaped(x, [0, 0, channels * positions])
    return write.shaped(
        write.op("MatMul", write.constant(matrix), flat), [0, 0, channels, positions]
    )


def _group_norm(write: _Writer, x: str, norm: nn.GroupNorm) -> str:
    """Group norm and ReLU of [P,M,C,Q], the statistics over all of M and Q."""
    channels = norm.num_channels
    group = write.constant(np.arange(channels) // (channels // GROUPS))

    def mean(y: str) -> str:
        """Of each channel's group, [P,1,C,1], summed step by step as `GroupNormRelu` does."""
        y = write.mean(write.mean(y, 3), 1)  # [P,1,C,1]
        y = write.mean(write.shaped(y, [0, 1, GROUPS, channels // GROUPS]), 3)  # [P,1,G,1]
        return write.op("Gather", y, group, axis=2)

    centred = write.op("Sub", x, mean(x))
    return write.rescale(centred, mean(write.op("Mul", centred, centred)), norm, [channels, 1])


def _both_biases(conv: CenterPivotConv4d) -> Tensor:
    assert conv.conv1.bias is not None and conv.conv2.bias is not None
    return conv.conv1.bias + conv.conv2.bias
