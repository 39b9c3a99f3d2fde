"""The layers of the `packed` form: center-pivot convolutions on windows and grids, group norms.

Support-major, with the query positions innermost; see `lowering_packed`, and for the letters
`export.graphs`.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper
from torch import Tensor, nn

from hsnet_trt.export.graphs.lowering import Grid
from hsnet_trt.export.graphs.lowering_conv2d import full_mix
from hsnet_trt.export.graphs.onnx_writer import GraphWriter
from hsnet_trt.export.graphs.support_windows import centres, windows_by_shape
from hsnet_trt.model.center_pivot import CenterPivotConv4d
from hsnet_trt.model.learner import GROUPS


class PackedWriter(GraphWriter):
    """A `GraphWriter` with the operations that this network uses often."""

    def shaped(self, x: str, shape: list[int]) -> str:
        """Reshape; 0 keeps a dimension, -1 stands for the remaining elements."""
        return self.op("Reshape", x, self.constant(shape))

    def conv(self, x: str, conv: nn.Conv2d, bias: Tensor | None = None) -> str:
        """A convolution of [n,C,h,w] with its padding, and with its own bias or `bias`."""
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
        """The end of a group norm, and ReLU: divide by the deviation, apply weight and bias.

        `channels`: the shape that weight and bias are given.
        """
        root = self.op("Sqrt", self.op("Add", variance, self.constant(np.float32(norm.eps))))
        weight = self.constant(norm.weight.reshape(channels))
        bias = self.constant(norm.bias.reshape(channels))
        x = self.op("Mul", centred, self.op("Div", weight, root))
        return self.op("Relu", self.op("Add", x, bias))


def over_windows(
    write: PackedWriter,
    level: int,
    rows: str,
    conv: CenterPivotConv4d,
    norm: nn.GroupNorm,
    query: Grid,
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


def _group_norm_of_windows(write: PackedWriter, level: int, x: str, norm: nn.GroupNorm) -> str:
    """Group norm and ReLU of [B,T,C,Q], each window weighted by how many places share it.

    Statistics are per shot, over all its places; each window belongs to one shot.
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
        """The mean for each window's shot and channel's group, [B,T,C,1], summed step by step."""
        y = write.mean(write.shaped(write.mean(y, 3), groups), 3, keep=False)  # [B,T,G]
        of_shots = write.op("MatMul", share, y)  # [B,S,G]
        spread = write.op("Gather", write.op("Gather", of_shots, shot, axis=1), group, axis=2)
        return write.op("Unsqueeze", spread, write.constant([3]))

    centred = write.op("Sub", x, mean(x))
    return write.rescale(centred, mean(write.op("Mul", centred, centred)), norm, [channels, 1])


def over_grid(
    write: PackedWriter,
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


def dense_layer(
    write: PackedWriter, x: str, conv: CenterPivotConv4d, query: Grid, support: Grid
) -> str:
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


def group_norm(write: PackedWriter, x: str, norm: nn.GroupNorm) -> str:
    """Group norm and ReLU of [P,M,C,Q], the statistics over all of M and Q."""
    channels = norm.num_channels
    group = write.constant(np.arange(channels) // (channels // GROUPS))

    def mean(y: str) -> str:
        """The mean of each channel's group, [P,1,C,1], summed step by step as `GroupNormRelu`."""
        y = write.mean(write.mean(y, 3), 1)  # [P,1,C,1]
        y = write.mean(write.shaped(y, [0, 1, GROUPS, channels // GROUPS]), 3)  # [P,1,G,1]
        return write.op("Gather", y, group, axis=2)

    centred = write.op("Sub", x, mean(x))
    return write.rescale(centred, mean(write.op("Mul", centred, centred)), norm, [channels, 1])


def _both_biases(conv: CenterPivotConv4d) -> Tensor:
    assert conv.conv1.bias is not None and conv.conv2.bias is not None
    return conv.conv1.bias + conv.conv2.bias
