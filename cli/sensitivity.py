"""`hsnet-trt sensitivity`: how much accuracy each layer loses in INT8."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hsnet_trt.cli.shared.episodes import DATA_HELP, EpisodeOptions
from hsnet_trt.cli.shared.options import Size, size_option
from hsnet_trt.cli.shared.places import check_folder, check_installed


def sensitivity(
    bundle: Annotated[Path, typer.Argument(help="The bundle with the FP32 graphs.")],
    *,
    data: Annotated[list[str], typer.Option(help=DATA_HELP)],
    dataset: EpisodeOptions,
    episodes: Annotated[
        int, typer.Option(help="Validation episodes that each layer is judged by.")
    ] = 16,
    ranges: Annotated[
        Path | None,
        typer.Option(help="A calibration file; by default ranges of 64 training episodes."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="percentile (default), minmax or entropy.")
    ] = None,
    size: Annotated[Size | None, size_option("; by default the first.")] = None,
    lowering: Annotated[
        str | None, typer.Option(help="conv2d or conv3d; by default the first exported.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for sensitivity.json, sensitivity.md and sensitivity.png.")
    ] = Path("sensitivity"),
) -> None:
    """Rank the layers and blocks of BUNDLE by the accuracy lost when only they are INT8.

    `hsnet-trt calibrate --accuracy-budget` makes this ranking by itself; here it is shown.
    """
    from rich.table import Table

    from hsnet_trt.calibration.sensitivity import rank, write
    from hsnet_trt.calibration.workbench import EPISODES, Workbench
    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.cli.shared.progress import StepBar

    check_installed("matplotlib")
    check_folder(out)
    console = plain_console(stderr=True)
    with StepBar(console) as bar:
        source = dataset.source(data)
        bench = Workbench(bundle, source, size=size, lowering=lowering, progress=bar)
        bench.calibrate(ranges, method, EPISODES, "")
        judge, name = bench.judge(episodes)
        found = rank(judge, name, progress=bar)
    write(found, out)
    table = Table(title=f"INT8 alone, {found.everything.episodes} episodes of {name}", box=None)
    for column in ("layer or block", "SQNR, dB", "mIoU", "changed"):
        table.add_column(column, no_wrap=True)
    for entry in (*found.blocks, *found.layers[:10]):
        table.add_row(
            entry.name,
            f"{entry.cost.sqnr:.1f}",
            f"{-entry.cost.points:+.2f}",
            f"{100 * entry.cost.changed:.3f} %",
        )
    plain_console().print(table)
    typer.echo(out)
