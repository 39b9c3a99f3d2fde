"""`hsnet-trt doctor`: what this machine can do, and how to enable the rest."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    json_output: Annotated[
        bool, typer.Option("--json", help="As JSON, for other programs.")
    ] = False,
) -> None:
    """Show what this machine can do, what the rest needs, and the command to install it."""
    from rich.console import Console

    from hsnet_trt.export.doctor.diagnosis import diagnose
    from hsnet_trt.export.doctor.diagnosis_tables import diagnosis_tables

    with Console(stderr=True).status("looking at the machine (each library is tried on its own)"):
        diagnosis = diagnose()
    if json_output:
        typer.echo(diagnosis.to_json())
    else:
        Console().print(diagnosis_tables(diagnosis))
