"""`hsnet-trt benchmark`: how fast is a bundle beside PyTorch, on this machine, in one run?"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hsnet_trt.cli.shared.options import WeightsOption
from hsnet_trt.cli.shared.places import check_file, check_folder, check_installed
from hsnet_trt.cli.shared.values import command_line
from hsnet_trt.files import replacing

if TYPE_CHECKING:
    from hsnet_trt.benchmarks.speed.record import Record
    from hsnet_trt.cli.shared.progress import StepBar


def benchmark(
    bundle: Annotated[
        list[Path] | None,
        typer.Argument(help="Bundles; by default ResNet-50 with random weights is exported."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="The bundles' weights; not needed for those of random-checkpoint."),
    ] = None,
    weights: WeightsOption = None,
    shots: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Supports per class; may be repeated. By default 1 and 5."),
    ] = None,
    area: Annotated[
        list[float] | None,
        typer.Option(help="Mask's share of a support; may be repeated. By default 0.2 and 1."),
    ] = None,
    only: Annotated[
        str, typer.Option(help="Time only contenders whose name contains this, and the baseline.")
    ] = "",
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Every backbone (or bundle) and size, 5 classes, batches of 2 to 8: hours.",
        ),
    ] = False,
    scaling: Annotated[
        bool, typer.Option(help="Also time growing numbers of shots, classes and sizes.")
    ] = True,
    rounds: Annotated[
        int, typer.Option(min=1, help="Repeats; each has a turn of every contender.")
    ] = 6,
    seconds: Annotated[float, typer.Option(help="Shortest time of a turn.")] = 0.6,
    device: Annotated[
        str | None,
        typer.Option(help="PyTorch's device, cpu or cuda; by default the GPU if there is one."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the record: .json and .md.")] = Path(
        "benchmarks/results"
    ),
    plot: Annotated[Path, typer.Option(help="The picture to draw.")] = Path("docs/benchmark.png"),
    readme: Annotated[
        Path | None, typer.Option(help="A page whose block of speeds is to be filled.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder for bundles exported here.")] = Path(
        "build/benchmark"
    ),
) -> None:
    """Time BUNDLES and PyTorch side by side, turn by turn, and write a record of the results.

    Latency and throughput, a query alone (its support registered before) and whole episodes, with
    memory, energy where the machine measures it, and the share of the machine's rates reached.
    """
    from hsnet_trt.benchmarks.limits.case import check_area
    from hsnet_trt.benchmarks.speed.race import Effort
    from hsnet_trt.benchmarks.speed.record import FULL, BenchmarkPlan
    from hsnet_trt.benchmarks.speed.record import benchmark as measure
    from hsnet_trt.benchmarks.speed.report import (
        block,
        fill,
        keep_unfinished,
        machine_name,
        write_report,
    )
    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.cli.shared.progress import StepBar

    check_installed("matplotlib")
    check_folder(out)
    check_file(plot, "--plot")
    if not bundle:
        check_installed("cv2", "skimage")  # for the episodes that INT8 takes its ranges from
        check_folder(work, "--work")
    for share in area or ():
        check_area(share)
    if readme is not None:
        fill(readme.read_text(encoding="utf-8"), "")  # hours before it is filled
        check_file(readme, "--readme")
    plan = FULL if full else BenchmarkPlan()
    plan = dataclasses.replace(
        plan,
        shots=tuple(sorted(shots or plan.shots)),
        areas=tuple(area or plan.areas),
        only=only,
        scaling=scaling,
        weights=weights,
        device=device or _device(),
        effort=Effort(rounds=rounds, seconds=seconds),
    )
    with StepBar(plain_console(stderr=True)) as bar:
        bundles = list(bundle or _export(work, full, checkpoint, weights, bar))
        record = measure(
            bundles,
            checkpoint,
            plan,
            command_line(),
            bar,
            keep=lambda part: keep_unfinished(part, out, machine_name(part.machine)),
        )
    name = machine_name(record.machine)
    files = write_report(record, out, name, plot)
    if readme is not None:
        page = fill(readme.read_text(encoding="utf-8"), block(record, name))
        with replacing(readme) as scratch:
            scratch.write_text(page, encoding="utf-8")
    _show(record)
    typer.echo("\n".join(str(path) for path in files))
    if record.wrong:
        raise typer.Exit(1)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _export(
    work: Path, full: bool, checkpoint: Path | None, weights: str | None, bar: StepBar
) -> list[Path]:
    """Export bundles with this version; those of an earlier run are replaced."""
    from hsnet_trt.export.bundle import export_bundle
    from hsnet_trt.model.checkpoint import load_checkpoint
    from hsnet_trt.model.hsnet import BACKBONES
    from hsnet_trt.model.recipe import recipe_model

    if checkpoint is not None:
        models = [load_checkpoint(checkpoint, weights=weights)]
    else:
        models = [recipe_model(name) for name in (BACKBONES if full else ("resnet50",))]
    sizes = [(400, 400), (256, 256), *([(480, 640)] if full else [])]
    paths = []
    for model in models:
        paths.append(work / model.name)
        export_bundle(model, paths[-1], sizes=sizes, command="hsnet-trt benchmark", progress=bar)
        _add_int8(paths[-1], bar)
    return paths


def _add_int8(bundle: Path, bar: StepBar) -> None:
    """Add INT8 graphs of the first size, in the form for CPUs (TensorRT's is not timed on a CPU).

    Few episodes: times do not depend on the ranges.
    """
    from hsnet_trt.calibration.workbench import Workbench
    from hsnet_trt.data.sources import Source
    from hsnet_trt.export.precision.int8 import calibrate
    from hsnet_trt.runtime.backends import CPU_LOWERING

    bench = Workbench(bundle, Source(("procedural",)), lowering=CPU_LOWERING, progress=bar)
    calibrate(bench, bundle, episodes=8, judged=0, command="hsnet-trt benchmark")


def _show(record: Record) -> None:
    from rich.table import Table

    from hsnet_trt.cli.shared.console import plain_console

    console = plain_console(width=None if sys.stdout.isatty() else 130)
    for case in dict.fromkeys(row.case for row in record.rows):
        table = Table(title=str(case), box=None)
        for column in (
            "workload",
            "mode",
            "contender",
            "ms",
            "p90",
            "spread",
            "times faster",
            "of attainable",
            "MB",
        ):
            table.add_column(column, no_wrap=True)
        rows = [row for row in record.rows if row.case == case]
        for row in sorted(rows, key=lambda r: (r.mode, r.workload, -r.times.median)):
            t, s = row.times, row.speedup
            table.add_row(
                row.workload,
                row.mode,
                f"{row.contender} {row.precision}",
                f"{'~' if t.noisy else ''}{t.median:.1f}",
                f"{t.p90:.1f}",
                f"{t.spread:.0%}",
                "" if s is None else f"{s.median:.2f} ({s.low:.2f} to {s.high:.2f})",
                "" if row.roofline is None else f"{row.roofline.reached:.0%}",
                "" if row.host_bytes is None else f"{row.host_bytes / 1e6:.0f}",
            )
        console.print(table)
    for name, why in record.refused.items():
        console.print(f"not timed: {name}: {why}", highlight=False)
    for warning in record.warnings:
        console.print(warning, style="yellow", highlight=False)
