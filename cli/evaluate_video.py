"""`hsnet-trt evaluate-video`: how well does a bundle follow an object through drawn videos?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hsnet_trt.cli.shared.options import BundleArgument, RunOptions, Size, size_option
from hsnet_trt.cli.shared.places import check_folder
from hsnet_trt.cli.shared.values import command_line


def evaluate_video(
    bundle: BundleArgument,
    data: Annotated[
        str, typer.Option(help="procedural; photo-cut or mixture with --root.")
    ] = "procedural",
    root: Annotated[Path | None, typer.Option(help="Folder of their pictures.")] = None,
    shots: Annotated[int, typer.Option(min=1, help="Supports of each video.")] = 1,
    videos: Annotated[int, typer.Option(min=1, help="How many videos.")] = 8,
    frames: Annotated[int, typer.Option(help="Frames of each video, 48 or more.")] = 96,
    frame_size: Annotated[Size | None, size_option(", of the videos; by default 240x320.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws other videos.")] = 0,
    memory: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=16,
            help="Judge with so many frames remembered, too, and more ways besides, instead of "
            "trivial answers; may be repeated.",
        ),
    ] = None,
    *,
    run: RunOptions,
    out: Annotated[
        Path, typer.Option(help="Folder for video.json, video.md, video.jpg and video.webp.")
    ] = Path("video-accuracy"),
) -> None:
    """Judge BUNDLE on drawn videos whose truth is known, frame by frame and steady.

    Of classes that were never learned, an object moves, turns, is hidden, leaves and comes back.
    Region similarity J, boundary F, flicker, and how soon its absence and its return are noticed.
    """
    from rich.table import Table

    from hsnet_trt.benchmarks.accuracy.video import (
        TRIVIAL,
        Follow,
        evaluate_videos,
        streamed_ways,
    )
    from hsnet_trt.benchmarks.accuracy.video_report import table, write_video_report
    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.cli.shared.progress import StepBar
    from hsnet_trt.data.drawn.videos import open_videos

    check_folder(out)
    opened = open_videos(
        data, root, shots=shots, size=frame_size or (240, 320), frames=frames, seed=seed
    )
    console = plain_console(stderr=True)
    with run.load(bundle, console) as segmenter:
        streamed = streamed_ways(segmenter, memory or ())
        ways: dict[str, Follow] = {**streamed, **({} if memory else TRIVIAL)}
        with StepBar(console) as bar:
            judgement = evaluate_videos(ways, opened, videos, on_video=bar)
        times = {name: way.milliseconds for name, way in streamed.items()}
        on = f"{segmenter.backbone}, {segmenter.backend} {segmenter.precision}, {segmenter.device}"
        write_video_report(
            judgement, streamed, opened, out, times=times, on=on, command=command_line()
        )
    heads, rows = table(judgement, times, intervals=False)  # or no terminal is wide enough
    printed = Table(title=judgement.data, box=None)
    for head in heads:
        printed.add_column(head)
    for row in rows:
        printed.add_row(*row)
    plain_console().print(printed)
    typer.echo(out)
