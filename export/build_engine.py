"""From a bundle's ONNX graphs to TensorRT engines in a bundle.

It needs only the bundle and TensorRT, so it runs on the device itself: neither torch nor onnx is
imported. `python -m hsnet_trt.export.build_engine` equals `hsnet-trt build-engine`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hsnet_trt.errors import BuildError, InputError
from hsnet_trt.export.engines.builder import EngineBuilder, choice_name
from hsnet_trt.export.engines.events import LogLine, OnEvent
from hsnet_trt.export.engines.flavours import choose_flavour
from hsnet_trt.export.engines.layer_types import quantised
from hsnet_trt.export.engines.options import EngineSpec, check_options
from hsnet_trt.export.engines.plugin_files import (
    choose_frame_kernels,
    choose_plugin,
    is_frame_kernels,
)
from hsnet_trt.export.engines.profiles import (
    Weighed,
    check_profiles,
    check_range,
    memory_at,
    profile_of,
)
from hsnet_trt.export.engines.targets import Target, find_target
from hsnet_trt.runtime.bundle import Bundle, BundleWriter, write_bundle
from hsnet_trt.runtime.bundle.manifest import EngineFile, GraphFile, Variant
from hsnet_trt.runtime.device.machine import Driver, find_driver
from hsnet_trt.runtime.frames.frame_kernels import bundled_name
from hsnet_trt.runtime.lowering_choice import AUTO
from hsnet_trt.runtime.matching.graphs import GRAPHS


def build_engine(
    bundle: str | os.PathLike[str],
    target: str,
    precision: str = "fp32",
    out: str | os.PathLike[str] | None = None,
    spec: EngineSpec | None = None,
    *,
    on_event: OnEvent = lambda event: None,
    command: str = "",
) -> Bundle:
    """Build the engines of a bundle for one target, and write the bundle that holds them.

    The features, support and match engines of each size are built in child processes. Everything
    else in `bundle` is kept; an older engine of the same graph, target and flavour is replaced.
    The compiled kernels that resize frames and draw masks are added if this package has them or
    nvcc can make them.

    Args:
        bundle: the bundle with the graphs.
        target: a name of `targets.TARGETS`, `portable`, `smNN` or `this`.
        precision: fp32, fp16 or int8: which of the exported graphs to build.
        out: where to write, once everything has succeeded; by default `bundle` is replaced.
        spec: sizes, profiles, form of `match` and builder options; by default `EngineSpec()`.
        on_event: called with each `events.BuildEvent`.
        command: the command line to record in the manifest; "" for none.

    Returns:
        The written bundle, opened.

    Raises:
        HSNetError: InputError, BundleError or BuildError; nothing was written.
        OSError: a file could not be read or written; nothing was written.
    """
    spec = spec or EngineSpec()
    check_range(spec.queries, "queries")
    check_range(spec.supports, "supports")
    source = Bundle.open(bundle)
    driver = find_driver()
    goal = find_target(target, driver)
    flavour = choose_flavour(goal, spec.flavour, driver)
    check_options(precision, spec.options, flavour, goal)
    graphs = choose_graphs(source, precision, spec)
    _check_memory(source, graphs, spec, goal)
    place = Path(bundle if out is None else out)
    builder = EngineBuilder(
        source,
        goal,
        flavour,
        spec.options,
        on_event,
        _choose_plugin(source, graphs, spec.plugin),
        examines=_is_here(goal, driver),
    )
    with write_bundle(place) as writer:
        engines = [
            builder.build(
                writer,
                graph,
                profile_of(graph, spec.queries, spec.supports),
                number,
                len(graphs),
            )
            for number, graph in enumerate(graphs, start=1)
        ]
        _check_memory(source, graphs, spec, goal, engines)
        _check_quantised(writer, engines)
        frames = choose_frame_kernels(source, lambda text: on_event(LogLine(text)))
        outdated = (
            choice_name("best", goal.name, flavour),
            choice_name(f"lowering.{precision}", goal.name, flavour),
        )
        kept = _copy_kept(source, writer, {_key(e) for e in engines}, frames is not None, outdated)
        if frames is not None:
            writer.add(bundled_name(), frames)
        if builder.plugin is not None:
            writer.add(*builder.plugin)
        writer.finish(
            dataclasses.replace(
                source.manifest,
                engines=(*kept, *engines),
                commands=(*source.manifest.commands, *filter(None, [command])),
            )
        )
    return Bundle.open(place)


def choose_graphs(bundle: Bundle, precision: str, spec: EngineSpec) -> list[GraphFile]:
    """The graphs to build for each size: features, support, and `match` in the wanted forms.

    Raises:
        BundleError: the bundle does not hold them.
        InputError: the requested form of `match` is for CPUs.
    """
    chosen = []
    for size in dict.fromkeys(spec.sizes or bundle.manifest.sizes):
        for name in GRAPHS[:-1]:
            chosen.append(bundle.graph(name, size, precision, lowering=""))
        whole = [
            g.variant.lowering
            for g in bundle.manifest.graphs
            if g.variant.graph == GRAPHS[-1] and g.variant.size == size and not g.packing
            if g.variant.precision == precision
            if spec.correlation in (None, g.variant.correlation)
        ]
        wanted = list(dict.fromkeys(whole)) if spec.lowering == AUTO else [spec.lowering]
        if wanted in ([], [None]):
            wanted = [next(iter(whole), None)]
        for lowering in wanted:
            match = bundle.graph(
                GRAPHS[-1], size, precision, lowering=lowering, correlation=spec.correlation
            )
            if match.packing:
                raise InputError(
                    "engines are not built of a packed match",
                    expected="one that takes supports whole",
                    found=f"{match.file}, which is for CPUs",
                    fix="choose --lowering conv2d, and export it too where it is not there",
                )
            chosen.append(match)
    return chosen


def _choose_plugin(
    source: Bundle, graphs: Sequence[GraphFile], given: Path | None
) -> tuple[str, bytes] | None:
    if any(graph.bare for graph in graphs):
        return choose_plugin(source, given)
    if given is not None:
        raise InputError(
            "a plugin was given for graphs that have no use for one",
            expected="--correlation plugin, of a bundle that was exported with it",
            found="the native correlation",
            fix="leave out --plugin, or choose --correlation plugin",
        )
    return None


def _check_memory(
    source: Bundle,
    graphs: Sequence[GraphFile],
    spec: EngineSpec,
    target: Target,
    engines: Sequence[EngineFile] = (),
) -> None:
    """Check that each `match`, with what runs beside it, fits the target.

    Before the build this uses the bundle's estimates, afterwards the builder's figures.

    Raises:
        BuildError: see `check_profiles`.
    """
    known = {engine.variant: engine.activation_bytes for engine in engines}
    for match in (g for g in graphs if g.variant.graph == GRAPHS[-1]):
        weighed = [
            Weighed(g, source.manifest.files[g.file].bytes)
            for g in graphs
            if g.variant.size == match.variant.size
            if g is match or g.variant.graph != GRAPHS[-1]
        ]
        scale = 1.0
        reported = [known.get(w.graph.variant) for w in weighed]
        if engines and None not in reported:
            needed = sum(n or 0 for n in reported) + sum(w.weight_bytes for w in weighed)
            scale = needed / memory_at(weighed, spec.queries, spec.supports)
        check_profiles(
            weighed, spec.queries, spec.supports, target.memory_bytes, target.title, scale
        )


def _is_here(target: Target, driver: Driver) -> bool:
    """Whether an engine for that target can be opened on this machine."""
    return bool(driver.gpus) and target.compute_capability in (
        None,
        driver.gpus[0].compute_capability,
    )


def _check_quantised(writer: BundleWriter, engines: Sequence[EngineFile]) -> None:
    """Refuse INT8 engines without INT8: at each size, features or match must quantise.

    Raises:
        BuildError: no layer quantises.
    """
    for size in {e.variant.size for e in engines if e.variant.precision == "int8"}:
        records = [
            json.loads((writer.path / e.record).read_text(encoding="utf-8"))
            for e in engines
            if e.variant.size == size
        ]
        if not any(quantised(record) for record in records):
            raise BuildError(
                f"the INT8 graphs of {size[0]}x{size[1]} quantise nothing",
                expected="layers of type QUANTIZE in the parsed networks",
                found="none",
                fix="calibrate again with a larger --accuracy-budget, or build another precision",
            )


def _key(engine: EngineFile) -> tuple[Variant, str, str]:
    return engine.variant, engine.target, engine.flavour


def _copy_kept(
    source: Bundle,
    writer: BundleWriter,
    replaced: set[Any],
    frames: bool,
    outdated: Sequence[str],
) -> list[EngineFile]:
    """Copy all files except those of replaced engines, checking each; returns the engines kept.

    With `frames`, frame kernels of any version are left out, because new ones replace them.
    `outdated`: records of choices among engines that may have been replaced now.
    """
    gone = set(outdated)
    kept = []
    for engine in source.manifest.engines:
        if _key(engine) in replaced:
            gone |= {engine.file, engine.record}
        else:
            kept.append(engine)
    if frames:
        gone |= {name for name in source.manifest.files if is_frame_kernels(name)}
    writer.copy(source, gone)
    return kept


if __name__ == "__main__":
    import sys

    from hsnet_trt.cli.main import main

    sys.argv.insert(1, "build-engine")
    main()
