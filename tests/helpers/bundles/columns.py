"""The tiny bundle's `match` as the correlation plugin's: supports as columns, made whole first."""

from __future__ import annotations

import onnx
from helpers.bundles.tiny_graphs import SIZE, STRIDES, make_graph
from onnx import TensorProto, helper


def columns_match() -> bytes:
    """It scatters each shot's columns to where the positions say, and goes on as the whole one."""
    model = onnx.load_model_from_string(make_graph("match", SIZE)[0])
    graph, before = model.graph, []
    for node in graph.node:
        node.input[:] = [
            f"whole_{name}" if name in ("s2", "s3", "s4") else name for name in node.input
        ]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.input}
    for level in STRIDES:
        support, places, counts = f"s{level}", f"a{level}", f"n{level}"
        row = shapes[support][3]
        value = helper.make_tensor_value_info
        graph.input.append(value(places, TensorProto.INT32, ["S", row]))
        graph.input.append(value(counts, TensorProto.INT32, ["S"]))
        ramp = range(row)
        for name, constant in (("ramp", ramp), ("behind", [row + i for i in ramp]), ("end", [row])):
            array = helper.make_tensor(
                f"{name}{level}", TensorProto.INT32, [len(constant)], constant
            )
            graph.initializer.append(array)
        before += [
            helper.make_node("Unsqueeze", [counts, "axis1"], [f"c1_{level}"]),
            helper.make_node("Less", [f"ramp{level}", f"c1_{level}"], [f"there{level}"]),
            helper.make_node("Where", [f"there{level}", places, f"behind{level}"], [f"at{level}"]),
            helper.make_node("Unsqueeze", [f"at{level}", "axes12"], [f"at4_{level}"]),
            helper.make_node("Shape", [support], [f"shape{level}"]),
            helper.make_node("Expand", [f"at4_{level}", f"shape{level}"], [f"index{level}"]),
            helper.make_node("Mul", [support, "zero"], [f"none{level}"]),
            helper.make_node("Concat", [f"none{level}"] * 2, [f"room{level}"], axis=3),
            helper.make_node(
                "ScatterElements",
                [f"room{level}", f"index{level}", support],
                [f"scattered{level}"],
                axis=3,
            ),
            helper.make_node(
                "Slice",
                [f"scattered{level}", "first32", f"end{level}", "axis3_32"],
                [f"whole_{support}"],
            ),
        ]
    for name, numbers in (("axes12", [1, 2]),):
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [2], numbers))
    for name, number in (("first32", 0), ("axis3_32", 3)):
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT32, [1], [number]))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*before, *nodes])
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content
