"""`hsnet-trt build-engine`: from a bundle's graphs to engines for one target."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer


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
    size: Annotated[
        list[str] | None,
        typer.Option(help="400 or 480x640 (height x width); by default all in the bundle."),
    ] = None,
    queries: Annotated[str, typer.Option(help="Queries at once, least:expected:most.")] = "1:1:4",
    supports: Annotated[
        str, typer.Option(help="Supports (classes x shots) matched at once, least:expected:most.")
    ] = "1:1:5",
    flavour: Annotated[str, typer.Option(help="auto, tensorrt or tensorrt_rtx.")] = "auto",
    lowering: Annotated[
        str | None, typer.Option(help="conv2d or conv3d; by default the first exported.")
    ] = None,
    correlation: Annotated[
        str | None, typer.Option(help="native or plugin; by default the first exported.")
    ] = None,
    plugin: Annotated[
        Path | None,
        typer.Option(
            help="The correlation plugin's library or compiled kernels; by default the bundle's, "
            "that of `make plugin`, or kernels compiled now."
        ),
    ] = None,
    workspace: Annotated[
        str | None, typer.Option(help="Memory a layer may use for itself, as in 2GiB.")
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(help="File that keeps measured timings between builds (TensorRT)."),
    ] = None,
    version_compatible: Annotated[
        bool,
        typer.Option("--version-compatible", help="Run with later minor versions too (TensorRT)."),
    ] = False,
    hardware_compatible: Annotated[
        str | None, typer.Option(help="ampere-plus or same-compute-capability (TensorRT).")
    ] = None,
    level: Annotated[
        int | None, typer.Option(help="Builder's effort, 0 (quick build) to 5 (quick engine).")
    ] = None,
    tf32: Annotated[bool, typer.Option("--tf32", help="Let FP32 products round to TF32.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the builder's whole log.")
    ] = False,
) -> None:
    """Build TensorRT engines from BUNDLE for one target machine.

    TensorRT for RTX builds for any RTX card with no GPU here; TensorRT builds on the GPU it builds
    for: copy the bundle to a Jetson and run this same command there.
    """
    from rich.console import Console

    from hsnet_trt.cli.build_progress import BuildProgress
    from hsnet_trt.errors import InputError
    from hsnet_trt.export.build_engine import build_engine as build
    from hsnet_trt.export.engines.options import BuilderOptions
    from hsnet_trt.export.engines.profiles import parse_bytes, parse_size

    options = BuilderOptions(
        workspace=parse_bytes(workspace) if workspace else None,
        timing_cache=timing_cache,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        level=level,
        tf32=tf32,
        verbose=verbose,
    )
    if accuracy_budget is not None and precision != "best":
        raise InputError(
            "an accuracy budget is kept where a precision is chosen",
            expected="--precision best",
            found=f"--precision {precision}",
            fix="leave it out, or give it to `hsnet-trt calibrate`, which makes INT8 graphs",
        )
    console = Console(stderr=True)
    with BuildProgress(console) as progress:
        asked: dict[str, Any] = {
            "sizes": [parse_size(text) for text in size or ()],
            "queries": queries,
            "supports": supports,
            "flavour": flavour,
            "lowering": lowering,
            "correlation": correlation,
            "plugin": plugin,
            "options": options,
            "on_event": progress,
        }
        if precision == "best":
            from hsnet_trt.export.best import BUDGET, build_best

            budget = BUDGET if accuracy_budget is None else accuracy_budget
            command = shlex.join(["hsnet-trt", *sys.argv[1:]])
            written, tried = build_best(
                bundle, target, out, budget=budget, command=command, **asked
            )
        else:
            written, tried = build(bundle, target, precision, out, **asked), []
    for one in tried:
        told = one.left_out or f"{one.milliseconds:.2f} ms"
        console.print(f"{one.precision}: {told}", highlight=False)
    console.print(f"{written.path}: {len(written.manifest.engines)} engines, hashes in bundle.json")
