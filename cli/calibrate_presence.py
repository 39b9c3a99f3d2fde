"""`hsnet-trt calibrate-presence`: from which score does a class count as present?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hsnet_trt.cli.shared.episodes import EpisodeOptions
from hsnet_trt.cli.shared.options import BackendOption, BundleArgument, PrecisionOption, SizeOption
from hsnet_trt.cli.shared.values import command_line


def calibrate_presence(
    bundle: BundleArgument,
    data: Annotated[
        list[str],
        typer.Option(help="folder:PATH or fss: pictures that show one class each."),
    ],
    *,
    dataset: EpisodeOptions,
    episodes: Annotated[
        int | None, typer.Option(help="How many with the class, and as many without; default all.")
    ] = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = None,
    size: SizeOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Bundle to write; by default BUNDLE gains the threshold.")
    ] = None,
) -> None:
    """Choose from which score a class counts as present, and keep it in BUNDLE.

    Episodes are scored as they are and with queries of other classes; the threshold is the one that
    answers most of both rightly. `segment` and all that show its masks go by it.
    """
    import dataclasses

    from hsnet_trt.calibration.presence import calibrate_presence as choose
    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.cli.shared.progress import StepBar
    from hsnet_trt.runtime.bundle import check_place
    from hsnet_trt.runtime.bundle.variants import add_variants
    from hsnet_trt.runtime.network import Network

    console = plain_console(stderr=True)
    place = bundle if out is None else out
    check_place(place)
    network = Network.load(bundle, backend, size, None, precision)
    try:
        source = dataclasses.replace(dataset.source(data), size=network.size)
        with StepBar(console) as bar:
            found = choose(network, source.open("test"), episodes, seed=source.seed, progress=bar)
        written = add_variants(
            network.bundle,
            place,
            [],
            present_from=found.value,
            command=command_line(),
        )
    finally:
        network.close()
    console.print(
        f"{written.path}: a class is present from {found.value:.3f}; {100 * found.kept:.1f} % of "
        f"{len(found.there)} with it are kept, {100 * found.silent:.1f} % of {len(found.absent)} "
        "without it are silent",
        highlight=False,
    )
