"""`hsnet-trt evaluate`: how well do a bundle and a checkpoint segment, by the paper's protocol?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hsnet_trt.cli.shared.episodes import DATA_HELP, EpisodeOptions
from hsnet_trt.cli.shared.options import (
    BackendOption,
    ContrastOption,
    RefineOption,
    SelfSupportOption,
    Size,
    WeightsOption,
    size_option,
)
from hsnet_trt.cli.shared.places import check_folder
from hsnet_trt.cli.shared.values import command_line

if TYPE_CHECKING:
    from hsnet_trt.benchmarks.accuracy.accuracy import Row
    from hsnet_trt.data.episodes.metrics import Interval


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            help="A bundle, a checkpoint, or 'shipped': the model in this package, trained for "
            "400 x 400, and good at 320 and 256, too (--size)."
        ),
    ],
    data: Annotated[list[str], typer.Option(help=DATA_HELP)],
    checkpoint: Annotated[
        Path | None, typer.Option(help="The bundle's checkpoint, to compare with PyTorch FP32.")
    ] = None,
    weights: WeightsOption = None,
    contrast: ContrastOption = None,
    self_support: SelfSupportOption = None,
    *,
    dataset: EpisodeOptions,
    refine: RefineOption = None,
    size: Annotated[Size | None, size_option("; by default the model's own.")] = None,
    backend: BackendOption = "auto",
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="fp32, fp16, int8, or fp16-emulated: rounded to FP16 after every operation, which "
            "a CPU's own FP16 is not. Repeat to compare several."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Where PyTorch runs: cpu or cuda.")] = "cpu",
    original_size: Annotated[
        bool, typer.Option("--original-size", help="Judge at the queries' own size.")
    ] = False,
    form: Annotated[
        str,
        typer.Option(
            help="Of --data folder and fss: clean; mosaic, half of each picture shows another "
            "class; or absent, where the query does, and nothing should be found."
        ),
    ] = "clean",
    episodes: Annotated[
        int | None, typer.Option(help="How many episodes; by default the protocol's, else 1000.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out broken files, count and list them.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder for accuracy.json, accuracy.md and accuracy.png.")
    ] = Path("accuracy"),
) -> None:
    """Judge MODEL on episodes: mIoU and FB-IoU as the authors of HSNet count them, per class.

    With a bundle and its checkpoint, PyTorch in FP32 answers the same episodes, and the table shows
    what each engine changed. Trivial answers stand beside them.
    """
    from rich.table import Table

    from hsnet_trt.benchmarks.accuracy.judging import judge
    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.cli.shared.progress import StepBar

    check_folder(out)
    source = dataset.source(data)
    console = plain_console(stderr=True)
    with StepBar(console) as bar:
        accuracy = judge(
            model,
            source,
            out,
            checkpoint=checkpoint,
            weights=weights,
            contrast=contrast,
            self_support=self_support,
            refine=refine,
            size=size,
            backend=backend,
            precisions=precision or [None],
            device=device,
            original_size=original_size,
            form=form,
            count=episodes,
            skip_bad=skip_bad,
            command=command_line(),
            on_episode=bar,
        )
    for line in accuracy.left_out:
        console.print(f"left out: {line}", highlight=False)
    table = Table(title=accuracy.data, box=None)
    names: tuple[str, ...] = ("found in", "shown in", "pixels")
    if form != "absent":
        names = ("mIoU", "FB-IoU", "difference", "shown in")
    table.add_column("answers")
    for column in (*names, "changed"):
        table.add_column(column, no_wrap=True)
    for row in accuracy.rows:
        table.add_row(row.name, *_figures(row, absent=form == "absent"))
    plain_console().print(table)
    typer.echo(out)


def _figures(row: Row, *, absent: bool) -> list[str]:
    """Its values, with their intervals on lines of their own: side by side they are too wide."""
    shown = "" if row.shown is None else _on_two_lines(row.shown, " %")
    changed = "" if row.changed is None else f"{row.changed:.3f} %"
    if absent:
        return [_on_two_lines(row.found, " %"), shown, f"{row.area:.1f} %", changed]
    difference = "" if row.difference is None else f"{row.difference:+.2f}"
    return [_on_two_lines(row.miou), _on_two_lines(row.fb_iou), difference, shown, changed]


def _on_two_lines(figure: Interval, unit: str = "") -> str:
    value, interval = str(figure).split(" ", 1)
    return f"{value}{unit}\n{interval}"
