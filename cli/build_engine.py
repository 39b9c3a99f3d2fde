"""`hsnet-trt build-engine`: from a bundle's graphs to engines for one target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hsnet_trt.cli.shared.options import Size, size_option
from hsnet_trt.cli.shared.values import command_line, parse_bytes, parse_range

if TYPE_CHECKING:
    from hsnet_trt.export.engines.options import BuilderOptions, EngineSpec


@dataclass(frozen=True)
class _Builder:
    """How TensorRT builds: a group of options, see `shared.groups.flatten`."""

    workspace: Annotated[
        str | None, typer.Option(help="Memory a layer may use for itself, as in 2GiB.")
    ] = None
    timing_cache: Annotated[
        Path | None,
        typer.Option(help="File that keeps measured timings between builds (TensorRT)."),
    ] = None
    version_compatible: Annotated[
        bool,
        typer.Option("--version-compatible", help="Run with later minor versions too (TensorRT)."),
    ] = False
    hardware_compatible: Annotated[
        str | None, typer.Option(help="ampere-plus or same-compute-capability (TensorRT).")
    ] = None
    level: Annotated[
        int | None, typer.Option(help="Builder's effort, 0 (quick build) to 5 (quick engine).")
    ] = None
    tf32: Annotated[bool, typer.Option("--tf32", help="Let FP32 products round to TF32.")] = False
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the builder's whole log.")
    ] = False

    def options(self) -> BuilderOptions:
        from hsnet_trt.export.engines.options import BuilderOptions

        return BuilderOptions(
            workspace=parse_bytes(self.workspace) if self.workspace else None,
            timing_cache=self.timing_cache,
            version_compatible=self.version_compatible,
            hardware_compatible=self.hardware_compatible,
            level=self.level,
            tf32=self.tf32,
            verbose=self.verbose,
        )


@dataclass(frozen=True)
class _Engines:
    """Which engines to build: a group of options, see `shared.groups.flatten`."""

    size: Annotated[list[Size] | None, size_option("; by default all in the bundle.")] = None
    queries: Annotated[str, typer.Option(help="Queries at once, min:opt:max.")] = "1:1:4"
    supports: Annotated[
        str, typer.Option(help="Supports (classes x shots) matched at once, min:opt:max.")
    ] = "1:1:5"
    flavour: Annotated[str, typer.Option(help="auto, tensorrt or tensorrt_rtx.")] = "auto"
    lowering: Annotated[
        str | None,
        typer.Option(
            help="conv2d or conv3d; auto: all that the bundle holds are built and timed on this "
            "machine's GPU, and the fastest is kept. By default the first exported."
        ),
    ] = None
    correlation: Annotated[
        str | None, typer.Option(help="native or plugin; by default the first exported.")
    ] = None
    plugin: Annotated[
        Path | None,
        typer.Option(
            help="The correlation plugin's library or compiled kernels; by default the bundle's, "
            "that of `make plugin`, or kernels compiled now."
        ),
    ] = None

    def spec(self, options: BuilderOptions) -> EngineSpec:
        from hsnet_trt.export.engines.options import EngineSpec

        return EngineSpec(
            sizes=tuple(self.size or ()),
            queries=parse_range(self.queries, "queries"),
            supports=parse_range(self.supports, "supports"),
            flavour=self.flavour,
            lowering=self.lowering,
            correlation=self.correlation,
            plugin=self.plugin,
            options=options,
        )


def build_engine(
    bundle: Annotated[Path, typer.Argument(help="The bundle with the graphs.")],
    *,
    target: Annotated[
        str,
        typer.Option(
            help="Machine to build for: rtx-4090, agx-orin-64gb, sm86, this, ...; portable: one "
            "engine for compute capability 8.0, 8.6, 8.9, 12.0 and later, so not for 7.5 (RTX 20), "
            "8.7 (Orin), 9.0 (H100), 10.x and 11.0 (Thor)."
        ),
    ],
    precision: Annotated[
        str,
        typer.Option(
            help="fp32, fp16 or int8: which of the bundle's graphs; or best: the fastest of them, "
            "measured on this machine's GPU, within the accuracy budget."
        ),
    ] = "fp32",
    accuracy_budget: Annotated[
        float | None,
        typer.Option(help="Points of mIoU that best may cost; by default 1."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Bundle to write; by default the engines join BUNDLE itself."),
    ] = None,
    engines: _Engines,
    builder: _Builder,
) -> None:
    """Build TensorRT engines from BUNDLE for one target machine.

    TensorRT for RTX builds for any RTX card with no GPU here; TensorRT builds on the GPU it builds
    for: copy the bundle to a Jetson and run this same command there.
    """
    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.cli.shared.progress import BuildProgress
    from hsnet_trt.errors import InputError
    from hsnet_trt.export.build_engine import build_engine as build

    spec, command = engines.spec(builder.options()), command_line()
    if accuracy_budget is not None and precision != "best":
        raise InputError(
            "an accuracy budget is for the choice of a precision",
            expected="--precision best",
            found=f"--precision {precision}",
            fix="leave it out, or give it to `hsnet-trt calibrate`, which makes INT8 graphs",
        )
    console = plain_console(stderr=True)
    with BuildProgress(console) as progress:
        if precision == "best":
            from hsnet_trt.export.best import BUDGET, build_best

            budget = BUDGET if accuracy_budget is None else accuracy_budget
            written, tried = build_best(
                bundle, target, out, spec, budget=budget, on_event=progress, command=command
            )
        else:
            from hsnet_trt.export.fastest import build_fastest
            from hsnet_trt.runtime.lowering_choice import AUTO

            tried = []
            make = build_fastest if spec.lowering == AUTO else build
            written = make(bundle, target, precision, out, spec, on_event=progress, command=command)
    for one in tried:
        outcome = one.left_out or f"{one.milliseconds:.2f} ms"
        console.print(f"{one.precision}: {outcome}", highlight=False)
    console.print(f"{written.path}: {len(written.manifest.engines)} engines, hashes in bundle.json")
