"""From a bundle's ONNX graphs to TensorRT engines in a bundle.

Reads only the bundle and TensorRT, so it runs on the device itself: neither torch nor onnx is
imported. `python -m hsnet_trt.export.build_engine` is the same command as `hsnet-trt build-engine`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsnet_trt.errors import BuildError, InputError
from hsnet_trt.export.builder_options import COMPATIBILITY, BuilderOptions, check_options
from hsnet_trt.export.engine_process import run_job
from hsnet_trt.export.engine_worker import Job
from hsnet_trt.export.flavours import choose_flavour
from hsnet_trt.export.plugin_files import choose_plugin
from hsnet_trt.export.profiles import Weighed, check_profiles, memory_at, parse_range, profile_of
from hsnet_trt.export.targets import AMPERE_PLUS, TENSORRT_RTX, Target, find_target
from hsnet_trt.runtime.bundle import Bundle, BundleWriter, describe, write_bundle
from hsnet_trt.runtime.machine import find_driver, platform_tag
from hsnet_trt.runtime.manifest import EngineFile, GraphFile, ProfileRange, Variant

GRAPHS = ("features", "support", "match")


def build_engine(
    bundle: str | os.PathLike[str],
    target: str,
    precision: str = "fp32",
    out: str | os.PathLike[str] | None = None,
    *,
    sizes: Sequence[tuple[int, int]] = (),
    queries: str = "1:1:4",
    supports: str = "1:1:5",
    flavour: str = "auto",
    lowering: str | None = None,
    correlation: str | None = None,
    plugin: str | os.PathLike[str] | None = None,
    options: BuilderOptions | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    command: str | None = None,
) -> Bundle:
    """Build the engines of a bundle for one target and write the bundle that holds them.

    The features, support and match engines of each size are built in child processes. Everything
    that `bundle` holds is kept; an older engine of the same graph, target and flavour is replaced.

    Args:
        bundle: the bundle with the graphs.
        target: a name of `targets.TARGETS`, `portable`, `smNN` or `this`.
        precision: fp32, fp16 or int8: which of the exported graphs.
        out: where to write; by default, and where it is the same folder, `bundle` is replaced once
            all has succeeded.
        sizes: (height, width) to build for; by default all that the bundle has.
        queries: range of B as least:expected:most.
        supports: range of S (classes x shots matched at once).
        flavour: auto, tensorrt or tensorrt_rtx.
        lowering: conv2d or conv3d for `match`; by default the first that was exported.
        correlation: native or plugin for `match`; by default the first that was exported.
        plugin: the file of the correlation plugin, a library or compiled kernels; by default it is
            looked for, see `plugin_files.choose_plugin`. It joins the bundle.
        options: see `builder_options.BuilderOptions`.
        on_event: called with progress events; `build_progress.BuildProgress` shows them.
        command: the command line to record in the manifest; by default it is put together.

    Returns:
        The written bundle, opened.

    Raises:
        HSNetError: InputError, BundleError or BuildError; then nothing was written.
    """
    options = options or BuilderOptions()
    query_range, support_range = parse_range(queries, "queries"), parse_range(supports, "supports")
    source = Bundle.open(bundle)
    driver = find_driver()
    goal = find_target(target, driver)
    chosen = choose_flavour(goal, flavour, driver)
    check_options(precision, options, chosen, goal)
    graphs = _choose_graphs(
        source, sizes or source.manifest.sizes, precision, lowering, correlation
    )
    _check_memory(source, graphs, query_range, support_range, goal)
    place = Path(bundle if out is None else out)
    if command is None:
        command = shlex.join(
            [
                *("hsnet-trt", "build-engine", str(bundle), "--target", target),
                *("--precision", precision, "--out", str(place), "--flavour", chosen),
                *("--queries", queries, "--supports", supports),
                *(f"--size={height}x{width}" for height, width in sizes),
                *(["--lowering", lowering] if lowering else []),
                *(["--correlation", correlation] if correlation else []),
                *(["--plugin", str(plugin)] if plugin else []),
                *options.arguments(),
            ]
        )
    builder = _Builder(
        source,
        goal,
        chosen,
        options,
        on_event or (lambda event: None),
        _choose_plugin(source, graphs, plugin),
    )
    try:
        with write_bundle(place) as writer:
            engines = [
                builder.build(
                    writer,
                    graph,
                    profile_of(graph, query_range, support_range),
                    number,
                    len(graphs),
                )
                for number, graph in enumerate(graphs, start=1)
            ]
            _check_memory(source, graphs, query_range, support_range, goal, engines)
            kept = _copy_kept(source, writer, {_key(e) for e in engines})
            if builder.plugin is not None:
                writer.add(*builder.plugin)
            writer.finish(
                dataclasses.replace(
                    source.manifest,
                    engines=(*kept, *engines),
                    commands=(*source.manifest.commands, command),
                )
            )
    except OSError as error:
        raise BuildError(
            f"the bundle cannot be written to {place}",
            found=error,
            fix="choose another --out, or free space",
        ) from error
    return Bundle.open(place)


@dataclass(frozen=True)
class _Builder:
    """What is the same for all engines of one call."""

    source: Bundle
    target: Target
    flavour: str
    options: BuilderOptions
    on_event: Callable[[dict[str, Any]], None]
    plugin: tuple[str, bytes] | None  # name in the bundle and content, where a graph needs it

    def build(
        self,
        writer: BundleWriter,
        graph: GraphFile,
        profile: dict[str, ProfileRange],
        number: int,
        total: int,
    ) -> EngineFile:
        """Build one engine into the bundle that is being written."""
        self.on_event(
            {"event": "engine", "label": describe(graph).strip(), "number": number, "total": total}
        )
        name = engine_name(graph.variant, self.target.name, self.flavour)
        (writer.path / name).parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="hsnet-trt-") as folder:
            # Copies of what was checked, whatever happens to the bundle meanwhile.
            job = self._job(graph, profile, Path(folder), writer.path / name)
            result = run_job(job, self.on_event)
        writer.seal(name)
        # What the parser made of the graph, for `hsnet-trt inspect` where there is no TensorRT.
        writer.add(record_name(name), (json.dumps(result, indent=1) + "\n").encode())
        engine = EngineFile(
            variant=graph.variant,
            file=name,
            target=self.target.name,
            flavour=self.flavour,
            version=result["version"],
            compute_capabilities=self._capabilities(),
            platform=platform_tag(),
            profile=profile,
            build_seconds=round(result["seconds"], 3),
            activation_bytes=result["memory"].get("activation"),
            version_compatible=self.options.version_compatible,
            plugin=self.plugin[0] if self.plugin and graph.bare else None,
        )
        self.on_event(
            {"event": "engine_end", "bytes": writer.files[name].bytes, "seconds": result["seconds"]}
        )
        return engine

    def _job(
        self, graph: GraphFile, profile: dict[str, ProfileRange], folder: Path, output: Path
    ) -> Job:
        """`folder`: for the files that the job reads."""

        def put(name: str, content: bytes) -> str:
            (folder / name).write_bytes(content)
            return str(folder / name)

        options = self.options
        plugin = bare = ""
        if self.plugin is not None and graph.bare is not None:
            plugin = put(Path(self.plugin[0]).name, self.plugin[1])
            bare = put("bare.onnx", self.source.read(graph.bare))
        capability = self.target.compute_capability
        names = [f"SM{capability.replace('.', '')}"] if capability else []
        return Job(
            task="build",
            flavour=self.flavour,
            source=put("graph.onnx", self.source.read(graph.file)),
            output=str(output),
            shapes=_shapes(graph, profile),
            architectures=names if self.flavour == TENSORRT_RTX else [],
            workspace=options.workspace,
            timing_cache=str(options.timing_cache.absolute()) if options.timing_cache else None,
            version_compatible=options.version_compatible,
            hardware_compatible=COMPATIBILITY.get(options.hardware_compatible or ""),
            level=options.level,
            tf32=options.tf32,
            verbose=options.verbose,
            plugin=plugin,
            bare=bare,
        )

    def _capabilities(self) -> tuple[str, ...]:
        if self.target.compute_capability is None:
            return ("portable",)
        if self.options.hardware_compatible == "ampere-plus":
            return AMPERE_PLUS
        return (self.target.compute_capability,)


def engine_name(variant: Variant, target: str, flavour: str) -> str:
    """Where an engine lies in its bundle."""
    v = variant
    size = f"{v.size[0]}x{v.size[1]}"
    form = "_".join(filter(None, (v.graph, size, v.precision, v.lowering, v.correlation)))
    return f"engines/{form}.{target}.{flavour}.engine"


def record_name(engine: str) -> str:
    """Where the record of how an engine was built lies: layers, I/O and memory, as JSON."""
    return engine.removesuffix(".engine") + ".json"


def _choose_graphs(
    bundle: Bundle,
    sizes: Sequence[tuple[int, int]],
    precision: str,
    lowering: str | None,
    correlation: str | None,
) -> list[GraphFile]:
    """The three graphs of each size; only `match` comes in several forms."""
    chosen = []
    for size in dict.fromkeys(sizes):
        for name in GRAPHS[:-1]:
            chosen.append(bundle.graph(name, size, precision))
        chosen.append(
            bundle.graph(GRAPHS[-1], size, precision, lowering=lowering, correlation=correlation)
        )
    return chosen


def _choose_plugin(
    source: Bundle, graphs: Sequence[GraphFile], given: str | os.PathLike[str] | None
) -> tuple[str, bytes] | None:
    if any(graph.bare for graph in graphs):
        return choose_plugin(source, None if given is None else Path(given))
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
    queries: ProfileRange,
    supports: ProfileRange,
    target: Target,
    engines: Sequence[EngineFile] = (),
) -> None:
    """Check each size by the bundle's estimate or, of built engines, by what the builder told.

    Raises:
        BuildError: see `check_profiles`.
    """
    told = {engine.variant: engine.activation_bytes for engine in engines}
    for size in dict.fromkeys(g.variant.size for g in graphs):
        weighed = [
            Weighed(g, source.manifest.files[g.file].bytes)
            for g in graphs
            if g.variant.size == size
        ]
        scale = 1.0
        reported = [told.get(w.graph.variant) for w in weighed]
        if engines and None not in reported:
            needed = sum(n or 0 for n in reported) + sum(w.weight_bytes for w in weighed)
            scale = needed / memory_at(weighed, queries, supports)
        check_profiles(weighed, queries, supports, target.memory_bytes, target.title, scale)


def _shapes(graph: GraphFile, profile: dict[str, ProfileRange]) -> dict[str, list[list[int]]]:
    """Least, expected and largest shape of each input."""
    return {
        tensor.name: [
            [getattr(profile[d], end) if isinstance(d, str) else d for d in tensor.shape]
            for end in ("least", "expected", "most")
        ]
        for tensor in graph.inputs
    }


def _key(engine: EngineFile) -> tuple[Variant, str, str]:
    return engine.variant, engine.target, engine.flavour


def _copy_kept(source: Bundle, writer: BundleWriter, replaced: set[Any]) -> list[EngineFile]:
    """Copy all files that stay, each checked; returns the engines that stay."""
    gone: set[str] = set()
    kept = []
    for engine in source.manifest.engines:
        if _key(engine) in replaced:
            gone |= {engine.file, record_name(engine.file)}
        else:
            kept.append(engine)
    for name in source.manifest.files:
        if name not in gone:
            writer.add(name, source.read(name))
    return kept


if __name__ == "__main__":
    import sys

    from hsnet_trt.cli.main import main

    sys.argv.insert(1, "build-engine")
    main()
