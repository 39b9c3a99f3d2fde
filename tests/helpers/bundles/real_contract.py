"""Small bundles whose graphs keep the real contract: names, shapes, dynamic dimensions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hsnet_trt.runtime.bundle import Bundle, write_bundle
from hsnet_trt.runtime.bundle.manifest import (
    GraphFile,
    Growth,
    Manifest,
    Model,
    Preprocessing,
    TensorSpec,
    Variant,
)
from hsnet_trt.runtime.device.machine import Driver, Gpu

SIZE = (64, 64)
CHANNELS, POSITIONS = 8, 64
LEVELS = (2, 3, 4)
TYPES = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16}
FORMS = {"match": ("conv2d", "native")}
ORIN = Driver("12.6", (Gpu(0, "Orin", "8.7", 60 * 2**30, True),))
KERNELS = b"\x50\xed\x55\xba and, for a test, no more"  # how a fat binary begins
NAMES = {"fp32": "float32", "fp16": "float16"}


def _numbers(name: str, values: list[int]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def features_graph(precision: str) -> onnx.ModelProto:
    """One convolution, its output given as the features of all three levels."""
    kind = TYPES[precision]
    weight = np.random.default_rng(0).standard_normal((CHANNELS, 3, 8, 8)).astype(NAMES[precision])
    nodes = [helper.make_node("Conv", ["image", "weight"], ["conv"], strides=[8, 8])]
    for level in LEVELS:
        nodes.append(helper.make_node("Reshape", ["conv", "shape"], [f"f{level}"]))
    graph = helper.make_graph(
        nodes,
        "features",
        [helper.make_tensor_value_info("image", kind, ["N", 3, *SIZE])],
        [
            helper.make_tensor_value_info(f"f{i}", kind, ["N", 1, CHANNELS, POSITIONS])
            for i in LEVELS
        ],
        [
            numpy_helper.from_array(weight, "weight"),
            _numbers("shape", [-1, 1, CHANNELS, POSITIONS]),
        ],
    )
    return _model(graph)


def support_graph(precision: str) -> onnx.ModelProto:
    """Features times the mask, averaged to their resolution."""
    kind = TYPES[precision]
    nodes = [
        helper.make_node("Unsqueeze", ["mask", "one"], ["plane"]),
        helper.make_node("AveragePool", ["plane"], ["small"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["small", "shape"], ["weight"]),
    ]
    for level in LEVELS:
        nodes.append(helper.make_node("Mul", [f"f{level}", "weight"], [f"s{level}"]))
    graph = helper.make_graph(
        nodes,
        "support",
        [
            *[
                helper.make_tensor_value_info(f"f{i}", kind, ["S", 1, CHANNELS, POSITIONS])
                for i in LEVELS
            ],
            helper.make_tensor_value_info("mask", kind, ["S", *SIZE]),
        ],
        [
            helper.make_tensor_value_info(f"s{i}", kind, ["S", 1, CHANNELS, POSITIONS])
            for i in LEVELS
        ],
        [_numbers("one", [1]), _numbers("shape", [-1, 1, 1, POSITIONS])],
    )
    return _model(graph)


def match_graph(precision: str) -> onnx.ModelProto:
    """The correlation of every query with every support, averaged over support positions."""
    kind = TYPES[precision]
    nodes = []
    for level in LEVELS:
        nodes += [
            helper.make_node("Transpose", [f"f{level}"], [f"t{level}"], perm=[0, 1, 3, 2]),
            helper.make_node("Unsqueeze", [f"t{level}", "one"], [f"q{level}"]),
            helper.make_node("Unsqueeze", [f"s{level}", "zero"], [f"k{level}"]),
            helper.make_node("MatMul", [f"q{level}", f"k{level}"], [f"c{level}"]),
            helper.make_node("ReduceMean", [f"c{level}", "last"], [f"m{level}"], keepdims=0),
        ]
    nodes += [
        helper.make_node("Sum", ["m2", "m3", "m4"], ["sum"]),
        helper.make_node("Concat", ["sum", "sum"], ["two"], axis=2),
        helper.make_node("Shape", ["sum"], ["dims"], end=2),
        helper.make_node("Concat", ["dims", "plane"], ["shape"], axis=0),
        helper.make_node("Reshape", ["two", "shape"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "match",
        [
            *[
                helper.make_tensor_value_info(f"f{i}", kind, ["B", 1, CHANNELS, POSITIONS])
                for i in LEVELS
            ],
            *[
                helper.make_tensor_value_info(f"s{i}", kind, ["S", 1, CHANNELS, POSITIONS])
                for i in LEVELS
            ],
        ],
        [helper.make_tensor_value_info("logits", kind, ["B", "S", 2, 8, 8])],
        [
            _numbers("zero", [0]),
            _numbers("one", [1]),
            _numbers("last", [4]),
            _numbers("plane", [2, 8, 8]),
        ],
    )
    return _model(graph)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


MAKERS = {"features": features_graph, "support": support_graph, "match": match_graph}


def graph_file(name: str, precision: str, model: onnx.ModelProto) -> GraphFile:
    """The manifest's entry of a graph, its tensors read from the graph itself."""

    def specs(values: list[onnx.ValueInfoProto]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(
                v.name,
                NAMES[precision],
                tuple(d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim),
            )
            for v in values
        )

    pairs = Growth(per_pair=POSITIONS * POSITIONS)
    images = Growth(per_query=3 * SIZE[0] * SIZE[1])
    planes = Growth(per_support=SIZE[0] * SIZE[1])
    largest = {"features": images, "support": planes, "match": pairs}[name]
    growth = Growth(*(4 * n for n in (0, largest.per_query, largest.per_support, largest.per_pair)))
    return GraphFile(
        variant=Variant(name, SIZE, precision, *FORMS.get(name, ("", ""))),
        file=f"graphs/{name}.{precision}.onnx",
        opset=18,
        inputs=specs(list(model.graph.input)),
        outputs=specs(list(model.graph.output)),
        largest_tensor=largest,
        activation_bytes=growth,
        grids=((8, 8), (8, 8), (8, 8)),
    )


def write_small_bundle(path: Path, precisions: tuple[str, ...] = ("fp32", "fp16")) -> Bundle:
    """A bundle with the three graphs in each precision."""
    with write_bundle(path) as writer:
        entries = []
        for precision in precisions:
            for name, make in MAKERS.items():
                model = make(precision)
                model.producer_name = precision  # the stand-in for TensorRT reads no types
                entry = graph_file(name, precision, model)
                writer.add(entry.file, model.SerializeToString())
                entries.append(entry)
        writer.finish(
            Manifest(
                model=Model("resnet18", "0" * 64, False, (1, 1, 1), (CHANNELS,) * 3),
                preprocessing=Preprocessing(),
                sizes=(SIZE,),
                graphs=tuple(entries),
                created_by="tests",
                commands=("written by a test",),
            )
        )
    return Bundle.open(path)


def calls(path: Path) -> dict[str, Any]:
    """What the stand-in for TensorRT was asked: see the fixture `orin`."""
    recorded: dict[str, Any] = json.loads(path.read_text())
    return recorded
