"""`hsnet-trt calibrate`: INT8 graphs for a bundle, inside an accuracy budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hsnet_trt.cli.shared.episodes import DATA_HELP, EpisodeOptions
from hsnet_trt.cli.shared.options import Size, size_option
from hsnet_trt.cli.shared.places import check_file
from hsnet_trt.cli.shared.values import command_line
from hsnet_trt.files import replacing

if TYPE_CHECKING:
    from hsnet_trt.export.precision.int8 import Calibration


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="The bundle with the FP32 graphs.")],
    *,
    data: Annotated[list[str] | None, typer.Option(help=DATA_HELP)] = None,
    dataset: EpisodeOptions,
    episodes: Annotated[int, typer.Option(help="Training episodes to take the ranges from.")] = 64,
    method: Annotated[
        str | None,
        typer.Option(help="percentile (default), minmax or entropy: how the range is chosen."),
    ] = None,
    ranges: Annotated[
        Path | None, typer.Option(help="A calibration file to use instead of new episodes.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write the calibration file here too.")] = None,
    judged: Annotated[
        int, typer.Option(help="Validation episodes to judge the result by; 0 for none.")
    ] = 100,
    accuracy_budget: Annotated[
        float | None,
        typer.Option(
            help="Points of mIoU that may be lost: the most sensitive layers stay float to keep it."
        ),
    ] = None,
    rest: Annotated[
        str, typer.Option(help="Precision of what is not INT8: fp16 or fp32.")
    ] = "fp16",
    quantizer: Annotated[
        str, typer.Option(help="onnxruntime, or NVIDIA's modelopt where it is installed.")
    ] = "onnxruntime",
    size: Annotated[Size | None, size_option("; by default the first.")] = None,
    lowering: Annotated[
        str | None,
        typer.Option(
            help="conv2d or conv3d; packed for ONNX Runtime on CPUs, whose INT8 has another form. "
            "By default the first exported that TensorRT takes."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Bundle to write; by default BUNDLE gains the graphs.")
    ] = None,
) -> None:
    """Add INT8 graphs to BUNDLE, with ranges taken from episodes.

    The ranges join the bundle as calibration/SIZE_LOWERING.json; with --ranges they are used again
    and give the same graphs, byte for byte.
    """
    from hsnet_trt.calibration.budget import Attempt
    from hsnet_trt.calibration.workbench import Workbench
    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.cli.shared.progress import StepBar
    from hsnet_trt.export.precision.int8 import calibrate as run

    console = plain_console(stderr=True)
    if save is not None:
        check_file(save, "--save")
    source = dataset.source(data) if data else None

    def show(attempt: Attempt) -> None:
        cost = attempt.cost
        console.print(
            f"{attempt.kept} layers float: mIoU {cost.miou:.2f}, FP32 {cost.miou_fp32:.2f} "
            f"({-cost.points:+.2f}); {100 * cost.changed:.2f} % of the pixels changed",
            highlight=False,
        )

    with StepBar(console) as bar:
        bench = Workbench(bundle, source, size=size, lowering=lowering, progress=bar)
        result = run(
            bench,
            bundle if out is None else out,
            ranges=ranges,
            method=method,
            episodes=episodes,
            judged=judged,
            budget=accuracy_budget,
            quantizer=quantizer,
            rest=rest,
            command=command_line(),
            on_attempt=show,
        )
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        with replacing(save) as scratch:
            scratch.write_text(result.table.to_json(), encoding="utf-8")
    console.print(_summary(result), highlight=False)


def _summary(result: Calibration) -> str:
    chosen = result.chosen
    kinds = {"Conv": "convolutions", "MatMul": "correlations"}
    counts = ", ".join(
        f"{sum(layer.op == op for layer in chosen.layers)} {name}" for op, name in kinds.items()
    )
    kept = f"; float for the budget: {', '.join(chosen.kept)}" if chosen.kept else ""
    cost = result.cost
    judged = (
        ""
        if cost is None
        else (
            f"\nas written: mIoU {cost.miou:.2f}, FP32 {cost.miou_fp32:.2f} ({-cost.points:+.2f}); "
            f"{100 * cost.changed:.2f} % of the pixels changed, {cost.episodes} episodes"
        )
    )
    return f"{result.bundle.path}: INT8 {counts} ({result.table.method} ranges){kept}{judged}"
