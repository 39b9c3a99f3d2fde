"""A bundle's FP16 graphs in a form that shows FP16's errors on a CPU: rounded after every op."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.bundle import Bundle, describe, write_bundle
from hsnet_trt.runtime.bundle.manifest import GraphFile

SUFFIX = "-emulated"  # as in `evaluate --precision fp16-emulated`


@contextlib.contextmanager
def emulated_bundle(source: Bundle, precision: str = "fp16") -> Iterator[Path]:
    """A temporary bundle, for the `with` block, whose graphs of that precision are emulated.

    The runtime treats it like any other bundle; see `export.precision.emulation`.

    Raises:
        InputError: the bundle has no such graphs, or they have nothing to emulate.
        BundleError: a graph was altered.
    """
    # Judging what is not emulated does not need onnx.
    import onnx

    from hsnet_trt.export.precision.emulation import emulated

    graphs = [g for g in source.manifest.graphs if g.variant.precision == precision]
    halves = [g for g in graphs if any(t.dtype == "float16" for t in (*g.inputs, *g.outputs))]
    if not halves:
        raise InputError(
            f"the bundle holds no FP16 graphs to emulate as {precision}{SUFFIX}",
            expected="graphs with float16 inputs or outputs",
            found="; ".join(describe(g) for g in source.manifest.graphs) or "no graphs",
            fix="export them: hsnet-trt export writes fp16 unless --precision says otherwise",
        )
    with tempfile.TemporaryDirectory(prefix="hsnet-trt-emulated-") as folder:
        path = Path(folder, "bundle")
        with write_bundle(path) as writer:
            entries = []
            for graph in graphs:
                model = onnx.load_model_from_string(source.read(graph.file))
                writer.add(graph.file, emulated(model).SerializeToString())
                entries.append(_in_float32(graph))
            writer.finish(
                dataclasses.replace(
                    source.manifest, graphs=tuple(entries), engines=(), golden=(), parity=()
                )
            )
        yield path


def _in_float32(graph: GraphFile) -> GraphFile:
    inputs, outputs = (
        tuple(
            dataclasses.replace(t, dtype="float32") if t.dtype == "float16" else t for t in tensors
        )
        for tensors in (graph.inputs, graph.outputs)
    )
    # Every value exists twice, before and after rounding.
    growth = graph.activation_bytes
    twice = dataclasses.replace(
        growth, **{f.name: 2 * getattr(growth, f.name) for f in dataclasses.fields(growth)}
    )
    return dataclasses.replace(
        graph, inputs=inputs, outputs=outputs, activation_bytes=twice, bare=None
    )
