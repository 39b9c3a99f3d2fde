"""The tiny bundle in FP16: its graphs through the pass that the real ones go through."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import FORMS, SIZE, make_graph

from hsnet_trt.export.precision.fp16 import to_fp16
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.figures import Tolerance
from hsnet_trt.runtime.bundle.manifest import GraphFile, TensorSpec
from hsnet_trt.runtime.bundle.variants import add_variants


def half(graph: str) -> tuple[GraphFile, bytes]:
    """A graph of the tiny bundle in FP16."""
    content, entry = make_graph(graph, SIZE)

    def typed(tensors: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(dataclasses.replace(t, dtype="float16") for t in tensors)

    model = to_fp16(onnx.load_model_from_string(content)).SerializeToString()
    variant = dataclasses.replace(entry.variant, precision="fp16")
    return dataclasses.replace(
        entry, variant=variant, file=f"graphs/{graph}_fp16.onnx", inputs=typed(entry.inputs),
        outputs=typed(entry.outputs),
    ), model  # fmt: skip


def both(path: Path, tolerance: float = 2e-2) -> Path:
    """The tiny bundle with its graphs in FP32 and FP16."""
    made = [half(graph) for graph in FORMS]
    bounds = Tolerance(tolerance, tolerance, 1e-2)
    graphs = [(entry, {entry.file: content}) for entry, content in made]
    add_variants(Bundle.open(make_bundle(path)), path, graphs, tolerance={"fp16": bounds})
    return path
