"""`hsnet-trt inspect`: what a bundle holds."""

from __future__ import annotations

from typing import Annotated

import typer

from hsnet_trt.cli.shared.options import BundleArgument


def inspect(
    bundle: BundleArgument,
    json_output: Annotated[
        bool, typer.Option("--json", help="As JSON, for other programs.")
    ] = False,
) -> None:
    """Show graphs, parsed layers, engines, profiles, sizes and hashes of BUNDLE.

    Every file's hash is checked. Layers need TensorRT or onnx here; an engine's own, a GPU.
    """
    import json

    from rich.console import Console

    from hsnet_trt.export.doctor.inspection import inspect_bundle
    from hsnet_trt.export.doctor.inspection_tables import inspection_tables

    report = inspect_bundle(bundle)
    if json_output:
        typer.echo(json.dumps(report, indent=1))
    else:
        Console().print(inspection_tables(report))
