"""What a bundle holds: graphs, their parsed networks, engines, profiles, sizes and hashes.

It works anywhere: whatever needs TensorRT, onnx or a GPU is left out, with the reason. (It is not
called `inspect`, because run from this folder it would hide Python's module of that name.)
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hsnet_trt.errors import BuildError, BundleError
from hsnet_trt.export.engines.flavours import TITLES, installed
from hsnet_trt.export.engines.process import run_job
from hsnet_trt.export.engines.worker import Job
from hsnet_trt.runtime.backends import CPU_LOWERING
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.manifest import EngineFile, GraphFile
from hsnet_trt.runtime.bundle.variants import layers_name
from hsnet_trt.runtime.device.machine import find_driver

Report = dict[str, Any]


def inspect_bundle(path: str | os.PathLike[str]) -> Report:
    """Everything that this machine can find out about a bundle, as JSON-able data.

    Keys: `path`, `manifest` (as in bundle.json), `graphs` and `engines`. A graph has `network`
    ("by": the parser, "layers": [{"type", "precision", "count"}]) or `network_missing`, the reason.
    A calibrated graph also has `int8`, the names of its INT8 layers, and `float`, those of the
    others with the reason. An engine has `record` (the parsed network it was built from and the
    builder's memory figures, stored in the bundle) and `examined` (the engine's own layers and
    memory) or `examined_missing`, the reason.

    Raises:
        BundleError: the bundle is damaged; every file is read and its hash checked.
    """
    bundle = Bundle.open(path)
    bundle.check()
    return {
        "path": str(bundle.path),
        "manifest": dataclasses.asdict(bundle.manifest),
        "graphs": [_graph(bundle, graph) for graph in bundle.manifest.graphs],
        "engines": [_engine(bundle, engine) for engine in bundle.manifest.engines],
    }


def _graph(bundle: Bundle, graph: GraphFile) -> Report:
    report: Report = {"file": graph.file, "bytes": bundle.manifest.files[graph.file].bytes}
    report |= _calibrated(bundle, graph)
    content = bundle.read(graph.file)
    reasons = []
    for flavour in TITLES:
        if not installed(flavour):
            continue
        try:
            with tempfile.TemporaryDirectory(prefix="hsnet-trt-") as folder:
                copy = Path(folder, "graph.onnx")
                copy.write_bytes(content)
                result = run_job(Job(task="parse", flavour=flavour, source=str(copy)))
        except BuildError as error:
            reasons.append(error.summary)
            continue
        by = f"{TITLES[flavour]} {result['version']}"
        return {**report, "network": {"by": by, "layers": result["layers"]}}
    if importlib.util.find_spec("onnx") is not None:
        return {
            **report,
            "network": {"by": "onnx (operators)", "layers": _count_operators(content)},
        }
    reasons.append("neither TensorRT, TensorRT for RTX nor onnx is installed here")
    return {**report, "network_missing": "; ".join(reasons)}


def _calibrated(bundle: Bundle, graph: GraphFile) -> Report:
    """Which layers of a graph are INT8, and why the others are not, from the bundle's record."""
    if graph.variant.precision != "int8":
        return {}
    of_match = [
        g.variant
        for g in bundle.manifest.graphs
        if (g.variant.graph, g.variant.size, g.variant.precision)
        == ("match", graph.variant.size, "int8")
        and g.variant.lowering != CPU_LOWERING
    ]
    lowering = graph.variant.lowering or (of_match[0].lowering if of_match else "")
    name = layers_name(graph.variant.size, lowering)
    if name not in bundle.manifest.files:
        return {}
    try:
        choice = json.loads(bundle.read(name))
        of = graph.variant.graph
        return {"int8": choice["int8"].get(of, []), "float": choice["float"].get(of, {})}
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{name} does not say which layers are INT8", found=error, fix="calibrate again"
        ) from error


def _count_operators(content: bytes) -> list[Report]:
    """Operators of an ONNX graph by type; their precision is unknown without type inference."""
    import onnx

    model = onnx.load_model_from_string(content)
    counts = Counter(node.op_type for node in model.graph.node)
    return [{"type": t, "precision": "-", "count": n} for t, n in sorted(counts.items())]


def _engine(bundle: Bundle, engine: EngineFile) -> Report:
    report: Report = {"file": engine.file, "bytes": bundle.manifest.files[engine.file].bytes}
    record = engine.record
    if record in bundle.manifest.files:
        try:
            report["record"] = json.loads(bundle.read(record))
        except (ValueError, RecursionError) as error:
            raise BundleError(
                f"{record} is not JSON", found=error, fix="build the engine again"
            ) from error
    missing = _cannot_examine(engine)
    if missing is None:
        try:
            with tempfile.TemporaryDirectory(prefix="hsnet-trt-") as folder:
                copy, plugin = Path(folder, "engine"), ""
                copy.write_bytes(bundle.read(engine.file))
                if engine.plugin is not None:  # without it the engine cannot be deserialised
                    plugin = str(Path(folder, Path(engine.plugin).name))
                    Path(plugin).write_bytes(bundle.read(engine.plugin))
                report["examined"] = run_job(
                    Job(task="examine", flavour=engine.flavour, source=str(copy), plugin=plugin)
                )
        except BuildError as error:
            missing = error.summary
    if missing is not None:
        report["examined_missing"] = missing
    return report


def _cannot_examine(engine: EngineFile) -> str | None:
    """Why the engine cannot be deserialised here; None if it is worth trying."""
    if not installed(engine.flavour):
        return f"{TITLES.get(engine.flavour, engine.flavour)} is not installed here"
    driver = find_driver()
    if not driver.gpus:
        return f"an engine can be opened only where there is a GPU: {driver.problem}"
    return None
