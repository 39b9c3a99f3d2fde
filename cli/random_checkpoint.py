"""`hsnet-trt random-checkpoint`: random weights to try the pipeline with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def random_checkpoint(
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    backbone: Annotated[
        str,
        typer.Option(
            help="vgg16, resnet18, resnet50, resnet101, efficientnet_lite0 or mobilenet_v2."
        ),
    ] = "resnet50",
) -> None:
    """Write a checkpoint of random weights, the same on every machine. Its masks mean nothing."""
    from hsnet_trt.model.checkpoint import save_checkpoint
    from hsnet_trt.model.recipe import recipe_model

    save_checkpoint(recipe_model(backbone), out)
    typer.echo(f"{out}: {backbone}, random weights")
