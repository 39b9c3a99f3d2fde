"""Builds one engine of a bundle in a child process, from copies of checked files."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hsnet_trt.errors import BuildError
from hsnet_trt.export.engines.events import EngineBuilt, EngineStarted, LogLine, OnEvent
from hsnet_trt.export.engines.layer_types import engine_problem
from hsnet_trt.export.engines.options import BuilderOptions
from hsnet_trt.export.engines.process import run_job
from hsnet_trt.export.engines.targets import AMPERE_PLUS, TENSORRT_RTX, Target
from hsnet_trt.export.engines.worker import Job
from hsnet_trt.runtime.bundle import Bundle, BundleWriter, describe
from hsnet_trt.runtime.bundle.manifest import EngineFile, GraphFile, ProfileRange, Variant
from hsnet_trt.runtime.device.machine import platform_tag


@dataclass(frozen=True)
class EngineBuilder:
    """Builds engines; holds what is the same for all engines of one call."""

    source: Bundle
    target: Target
    flavour: str
    options: BuilderOptions
    on_event: OnEvent
    plugin: tuple[str, bytes] | None  # (name in the bundle, content) if a graph needs it
    examines: bool = False  # whether this machine's GPU can load the engines, to check their layers

    def build(
        self,
        writer: BundleWriter,
        graph: GraphFile,
        profile: dict[str, ProfileRange],
        number: int,
        total: int,
    ) -> EngineFile:
        """Build one engine into the bundle that is being written.

        Raises:
            BuildError: TensorRT refused, or the engine has another precision than requested.
            OSError: a file could not be read or written.
        """
        self.on_event(EngineStarted(describe(graph).strip(), number, total))
        name = engine_name(graph.variant, self.target.name, self.flavour)
        (writer.path / name).parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="hsnet-trt-") as folder:
            # The job reads copies of checked files, in case the bundle changes meanwhile.
            job = self._job(graph, profile, Path(folder), writer.path / name)
            result = run_job(job, self.on_event)
            if self.examines:
                result["types"] = self._examine(job, graph)
        writer.seal(name)
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
        # The parsed network, for `hsnet-trt inspect` on machines without TensorRT.
        writer.add(engine.record, (json.dumps(result, indent=1) + "\n").encode())
        self.on_event(EngineBuilt(writer.files[name].bytes, result["seconds"]))
        return engine

    def _job(
        self, graph: GraphFile, profile: dict[str, ProfileRange], folder: Path, output: Path
    ) -> Job:
        """The build job; the files it reads are put into `folder`."""

        def put(name: str, content: bytes) -> str:
            (folder / name).write_bytes(content)
            return str(folder / name)

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
            options=self.options,
            precision=graph.variant.precision,
            plugin=plugin,
            bare=bare,
        )

    def _examine(self, built: Job, graph: GraphFile) -> dict[str, int]:
        """Count the types that the engine's layers read; see `layer_types.engine_types`.

        Raises:
            BuildError: no layer has the requested precision.
        """
        job = Job(task="examine", flavour=self.flavour, source=built.output, plugin=built.plugin)
        try:
            types: dict[str, int] = run_job(job)["types"]
        except BuildError as error:  # the engine may still run; `verify` checks that
            self.on_event(LogLine(f"the engine's layers were not checked: {error.summary}"))
            return {}
        problem = None
        if graph.variant.precision != "int8":  # the accuracy budget may leave all of it float
            problem = engine_problem(types, graph.variant.precision)
        if problem:
            raise BuildError(
                f"the engine of {describe(graph)} has another precision than requested",
                expected=graph.variant.precision,
                found=problem,
                fix="report it, with the builder's log of --verbose",
            )
        return types

    def _capabilities(self) -> tuple[str, ...]:
        if self.target.compute_capability is None:
            return ("portable",)
        if self.options.hardware_compatible == "ampere-plus":
            return AMPERE_PLUS
        return (self.target.compute_capability,)


def engine_name(variant: Variant, target: str, flavour: str) -> str:
    """The path of an engine in its bundle."""
    v = variant
    size = f"{v.size[0]}x{v.size[1]}"
    form = "_".join(filter(None, (v.graph, size, v.precision, v.lowering, v.correlation)))
    return f"engines/{form}.{target}.{flavour}.engine"


def choice_name(what: str, target: str, flavour: str) -> str:
    """The path, in a bundle, of the record of a choice among engines."""
    return f"engines/{what}.{target}.{flavour}.json"


def _shapes(graph: GraphFile, profile: dict[str, ProfileRange]) -> dict[str, list[list[int]]]:
    """The min, opt and max shape of each input."""
    return {
        tensor.name: [
            [getattr(profile[d], end) if isinstance(d, str) else d for d in tensor.shape]
            for end in ("least", "expected", "most")
        ]
        for tensor in graph.inputs
    }
