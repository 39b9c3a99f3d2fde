"""The three graphs of the tiny bundle, in a few operations, and what they compute.

Features are block averages, and a query's foreground logit is its likeness to the support's masked
mean colour.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hsnet_trt.runtime.bundle.manifest import GraphFile, Growth, TensorSpec, Variant
from hsnet_trt.trt_plugins.sizes import row_length

SIZE = (96, 128)  # height, width
STRIDES = {"2": 8, "3": 16, "4": 32}
LAYERS, CHANNELS = 2, 3


def grid(level: str, size: tuple[int, int] = SIZE) -> tuple[int, int]:
    stride = STRIDES[level]
    return size[0] // stride, size[1] // stride


def positions(level: str, size: tuple[int, int] = SIZE) -> int:
    height, width = grid(level, size)
    return height * width


def _pads(level: str, size: tuple[int, int]) -> onnx.TensorProto:
    count = positions(level, size)
    return _constant(f"pads{level}", [0, 0, 0, 0, 0, 0, 0, row_length(count) - count])


def _constant(name: str, values: object, dtype: type = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype), name)


def _value(name: str, shape: list[int | str], kind: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _shape(name: str, size: tuple[int, int], lead: str) -> list[int | str]:
    if name == "image":
        return [lead, 3, *size]
    if name == "mask":
        return [lead, *size]
    return [lead, LAYERS, CHANNELS, row_length(positions(name[1], size))]


def _features(size: tuple[int, int]) -> tuple[list, list]:
    nodes, constants = [], []
    for level, stride in STRIDES.items():
        constants.append(_constant(f"as{level}", [0, 1, 3, positions(level, size)]))
        constants.append(_pads(level, size))
        nodes += [
            helper.make_node(
                "AveragePool",
                ["image"],
                [f"p{level}"],
                kernel_shape=[stride] * 2,
                strides=[stride] * 2,
            ),
            helper.make_node("Reshape", [f"p{level}", f"as{level}"], [f"r{level}"]),
            helper.make_node("Neg", [f"r{level}"], [f"n{level}"]),
            helper.make_node("Concat", [f"r{level}", f"n{level}"], [f"c{level}"], axis=1),
            helper.make_node("Pad", [f"c{level}", f"pads{level}"], [f"f{level}"]),
        ]
    return nodes, constants


def _support(size: tuple[int, int]) -> tuple[list, list]:
    constants = [_constant("plane", [0, 1, *size])]
    nodes = [helper.make_node("Reshape", ["mask", "plane"], ["m"])]
    for level, stride in STRIDES.items():
        sizes = [size[0] // stride, size[1] // stride]
        constants += [
            _pads(level, size),
            _constant(f"to{level}", [0, 1, 1, positions(level, size)]),
            _constant(
                f"sizes{level}", [1.0, 1.0, sizes[0] / size[0], sizes[1] / size[1]], np.float32
            ),
        ]
        nodes += [
            helper.make_node(
                "Resize",
                ["m", "", f"sizes{level}"],
                [f"m{level}"],
                mode="linear",
                coordinate_transformation_mode="align_corners",
            ),
            helper.make_node("Reshape", [f"m{level}", f"to{level}"], [f"u{level}"]),
            helper.make_node("Pad", [f"u{level}", f"pads{level}"], [f"w{level}"]),
            helper.make_node("Mul", [f"f{level}", f"w{level}"], [f"s{level}"]),
        ]
    return nodes, constants


def _match(size: tuple[int, int]) -> tuple[list, list]:
    """logit 0 = 0; logit 1 = 1 - |colour - mean support colour|, at level 2's resolution."""
    height, width = size[0] // STRIDES["2"], size[1] // STRIDES["2"]
    constants = [
        _constant("first", [0]),
        _constant("second", [1]),
        _constant("axis1", [1]),
        _constant("axis3", [3]),
        _constant("axis0", [0]),
        _constant("channels", [2]),
        _constant("one", 1.0, np.float32),
        _constant("tiny", 1e-4, np.float32),
        _constant("positions", [height * width]),
        _constant("grid", [0, 0, 1, height, width]),
        _constant("zero", 0.0, np.float32),
    ]
    nodes = [
        helper.make_node("Slice", ["f2", "first", "second", "axis1"], ["q"]),  # [B,1,3,P]
        helper.make_node("Slice", ["s2", "first", "second", "axis1"], ["s"]),  # [S,1,3,P]
        helper.make_node("ReduceSum", ["s", "axis3"], ["sum"], keepdims=1),
        helper.make_node("Abs", ["s"], ["abs"]),
        helper.make_node("Sign", ["abs"], ["there"]),
        helper.make_node("ReduceMax", ["there", "channels"], ["on"], keepdims=1),
        helper.make_node("ReduceSum", ["on", "axis3"], ["count0"], keepdims=1),
        helper.make_node("Add", ["count0", "tiny"], ["count"]),
        helper.make_node("Div", ["sum", "count"], ["mean4"]),  # [S,1,3,1]
        helper.make_node("Squeeze", ["mean4", "axis1"], ["mean3"]),
        helper.make_node("Unsqueeze", ["mean3", "axis0"], ["mean"]),  # [1,S,3,1]
        helper.make_node("Sub", ["q", "mean"], ["d"]),  # [B,S,3,P]
        helper.make_node("Abs", ["d"], ["da"]),
        helper.make_node("ReduceMax", ["da", "channels"], ["far"], keepdims=1),  # [B,S,1,P]
        helper.make_node("Sub", ["one", "far"], ["near"]),
        helper.make_node("Slice", ["near", "first", "positions", "axis3"], ["there1"]),
        helper.make_node("Reshape", ["there1", "grid"], ["l1"]),
        helper.make_node("Mul", ["l1", "zero"], ["l0"]),
        helper.make_node("Concat", ["l0", "l1"], ["logits0"], axis=2),
        # Touch the other levels so that they are inputs of the graph.
        *[
            node
            for name in ("f3", "f4", "s3", "s4")
            for node in (
                helper.make_node("ReduceSum", [name], [f"t{name}"], keepdims=0),
                helper.make_node("Mul", [f"t{name}", "zero"], [f"z{name}"]),
            )
        ],
        helper.make_node("Sum", ["zf3", "zf4", "zs3", "zs4"], ["z"]),
        helper.make_node("Add", ["logits0", "z"], ["logits"]),
    ]
    return nodes, constants


def _vectors() -> tuple[list, list]:
    """Of a network with a background contrast: the mean of the masked last layers, [S,1,3,1]."""
    constants = [_constant("last", [-1]), _constant("width", [3])]
    nodes = []
    for level in "34":
        nodes += [
            helper.make_node("Gather", [f"s{level}", "last"], [f"l{level}"], axis=1),
            helper.make_node("ReduceMean", [f"l{level}", "width"], [f"c{level}"], keepdims=1),
        ]
    return nodes, constants


FORMS = {
    "features": (_features, ["image"], ["f2", "f3", "f4"]),
    "support": (_support, ["f2", "f3", "f4", "mask"], ["s2", "s3", "s4"]),
    "match": (_match, ["f2", "f3", "f4", "s2", "s3", "s4"], ["logits"]),
}


def lead_of(graph: str, name: str) -> str:
    return {"features": "N", "support": "S", "match": "S" if name[0] == "s" else "B"}[graph]


def make_graph(graph: str, size: tuple[int, int], contrast: float = 0.0) -> tuple[bytes, GraphFile]:
    """A graph and its entry; `contrast` is added to the logits as the real exporter does."""
    build, inputs, outputs = FORMS[graph]
    nodes, constants = build(size)
    if contrast and graph == "support":
        outputs = [*outputs, "c3", "c4"]
        nodes, constants = ([*a, *b] for a, b in zip((nodes, constants), _vectors(), strict=True))
    shapes = {n: _shape(n, size, lead_of(graph, n)) for n in [*inputs, *outputs] if n != "logits"}
    shapes |= {name: ["S", 1, CHANNELS, 1] for name in ("c3", "c4")}
    shapes["logits"] = ["B", "S", 2, size[0] // 8, size[1] // 8]
    kind = TensorProto.FLOAT
    model = helper.make_model(
        helper.make_graph(
            nodes,
            graph,
            [_value(n, shapes[n], kind) for n in inputs],
            [_value(n, shapes[n], kind) for n in outputs],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    if contrast and graph == "match":
        from hsnet_trt.export.graphs.beyond_the_paper import add_contrast

        grids = [(size[0] // stride, size[1] // stride) for stride in (16, 16, 32)]
        add_contrast(model, contrast, grids)
        inputs = [*inputs, "c3", "c4"]
    onnx.checker.check_model(model, full_check=True)
    growth = Growth(per_pair=100_000_000) if graph == "match" else Growth(per_query=100_000_000)
    entry = GraphFile(
        variant=Variant(graph, size, "fp32", "conv2d", "native"),
        file=f"graphs/{graph}_{size[0]}x{size[1]}.onnx",
        opset=18,
        inputs=tuple(TensorSpec(n, "float32", tuple(shapes[n])) for n in inputs),
        outputs=tuple(TensorSpec(n, "float32", tuple(shapes[n])) for n in outputs),
        largest_tensor=Growth(per_pair=1000),
        activation_bytes=growth,
        grids=(grid("2", size), grid("3", size), grid("4", size)),
    )
    return model.SerializeToString(), entry


def reference(
    queries: np.ndarray, supports: np.ndarray, masks: np.ndarray
) -> dict[str, np.ndarray]:
    """What the three graphs compute, in PyTorch."""
    import torch
    from torch.nn import functional

    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    def features(images: np.ndarray) -> dict[str, torch.Tensor]:
        x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std
        pooled = {k: functional.avg_pool2d(x, s).flatten(2) for k, s in STRIDES.items()}
        return {f"f{k}": torch.stack([p, -p], 1) for k, p in pooled.items()}

    query, shown = features(queries), features(supports)
    out = dict(query)
    plane = torch.from_numpy(masks).float()[:, None]
    for level, stride in STRIDES.items():
        grid = (plane.shape[2] // stride, plane.shape[3] // stride)
        weight = functional.interpolate(plane, grid, mode="bilinear", align_corners=True)
        out[f"s{level}"] = shown[f"f{level}"] * weight.flatten(2)[:, None]
    support = out["s2"][:, 0]
    count = (support.abs() > 0).any(1, keepdim=True).sum(2, keepdim=True) + 1e-4
    colour = support.sum(2, keepdim=True) / count  # [S,3,1]
    far = (out["f2"][:, :1] - colour[None]).abs().amax(2)  # [B,S,P]
    near = (1 - far).reshape(*far.shape[:2], queries.shape[1] // 8, queries.shape[2] // 8)
    out["logits"] = torch.stack([torch.zeros_like(near), near], 2)
    for name in set(out) - {"logits"}:
        count = out[name].shape[-1]
        out[name] = functional.pad(out[name], (0, row_length(count) - count))
    return {name: tensor.numpy() for name, tensor in out.items()}
