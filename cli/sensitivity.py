"""`hsnet-trt sensitivity`: which layers can bear INT8."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sensitivity(
    bundle: Annotated[Path, typer.Argument(help="The bundle with the FP32 graphs.")],
    *,
    data: Annotated[
        list[str],
        typer.Option(
            help="procedural, photo-cut, pascal, coco, fss or folder (folder:PATH names its "
            "place); repeat to mix."
        ),
    ],
    root: Annotated[Path | None, typer.Option(help="Folder of the dataset or photographs.")] = None,
    fold: Annotated[int, typer.Option(help="Fold of pascal and coco, 0 to 3.")] = 0,
    splits: Annotated[Path | None, typer.Option(help="The authors' data/splits.")] = None,
    shots: Annotated[int, typer.Option(help="Supports per episode.")] = 1,
    seed: Annotated[int, typer.Option(help="Of drawn episodes.")] = 0,
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
    size: Annotated[
        str | None, typer.Option(help="400 or 480x640 (height x width); by default the first.")
    ] = None,
    lowering: Annotated[
        str | None, typer.Option(help="conv2d or conv3d; by default the first exported.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for sensitivity.json, sensitivity.md and sensitivity.png.")
    ] = Path("sensitivity"),
) -> None:
    """Rank the layers and blocks of BUNDLE by what it costs that they alone are INT8.

    `hsnet-trt calibrate --accuracy-budget` ranks for itself; this shows the ranking.
    """
    from rich.console import Console
    from rich.table import Table

    from hsnet_trt.calibration.sensitivity import rank, write
    from hsnet_trt.calibration.workbench import EPISODES, Workbench
    from hsnet_trt.cli.shared.episodes import source_of
    from hsnet_trt.cli.shared.progress import StepBar
    from hsnet_trt.export.engines.profiles import parse_size

    console = Console(stderr=True)
    with StepBar(console) as bar:
        bench = Workbench(
            bundle, source_of(data, root, fold, splits, shots, seed),
            size=parse_size(size) if size else None, lowering=lowering, progress=bar,
        )  # fmt: skip
        bench.calibrate(ranges, method, EPISODES, "")
        judge, name = bench.judge(episodes)
        found = rank(judge, name, progress=bar)
    write(found, out)
    table = Table(title=f"INT8 alone, {found.everything.episodes} episodes of {name}", box=None)
    for column in ("layer or block", "SQNR, dB", "mIoU", "changed"):
        table.add_column(column, no_wrap=True)
    for entry in (*found.blocks, *found.layers[:10]):
        table.add_row(
            entry.name, f"{entry.cost.sqnr:.1f}", f"{-entry.cost.points:+.2f}",
            f"{100 * entry.cost.changed:.3f} %",
        )  # fmt: skip
    Console().print(table)
    typer.echo(out)
