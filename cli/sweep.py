"""`hsnet-trt sweep`: every image of a folder or a table, on one machine or a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hsnet_trt.cli.shared.options import BackendOption, BundleArgument, PrecisionOption, SizeOption
from hsnet_trt.cli.shared.places import check_installed


def sweep(
    bundle: BundleArgument,
    *,
    supports: Annotated[
        Path, typer.Option(help="A file of classes from `hsnet-trt segment --save-supports`.")
    ],
    images: Annotated[
        str,
        typer.Option(
            help="A folder, or Parquet with a column path, bytes or image; a path or s3://..."
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder or s3://... for the results.")],
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster; by default this machine alone.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="By default one a GPU, or one a core where there is none.")
    ] = None,
    part: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images that are written at once; a kill loses that much. By default 64, or what "
            "the sweep was begun with, which cannot be changed.",
        ),
    ] = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = None,
    size: SizeOption = None,
) -> None:
    """Segment many images by a kept support set.

    OUT gets the tables found (path, class, box, area, score, COCO mask), images and errors as
    Parquet. Killed and started again, it goes on: parts that are done are not done again.
    """
    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.cli.shared.progress import progress_bars
    from hsnet_trt.serving.sweep.sweep import Progress
    from hsnet_trt.serving.sweep.sweep import sweep as run

    check_installed("ray", "pyarrow", "pycocotools")
    console = plain_console(stderr=True, highlight=False)
    with progress_bars(console, stays=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(progress: Progress) -> None:
            state = f"{progress.found_now} found, {progress.errors_now} errors"
            if progress.seconds:
                state += f", {progress.done_now / progress.seconds:.1f} images/s"
            bar.update(task, total=progress.images, completed=progress.done, description=state)

        ended = run(
            bundle,
            supports,
            images,
            out,
            address=address,
            workers=workers,
            part=part,
            backend=backend,
            size=size,
            precision=precision,
            on_progress=show,
        )
    console.print(
        f"{ended.images} images, {ended.done_now} of them now: {ended.found_now} objects, "
        f"{ended.errors_now} errors, {ended.seconds:.1f} s"
    )
    typer.echo(out)
