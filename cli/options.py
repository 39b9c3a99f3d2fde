"""The arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundleArgument = Annotated[Path, typer.Argument(help="The bundle.")]
BackendOption = Annotated[str, typer.Option(help="auto, tensorrt, tensorrt_rtx or onnxruntime.")]
PrecisionOption = Annotated[str | None, typer.Option(help="fp32, fp16 or int8.")]
SizeOption = Annotated[
    str | None, typer.Option(help="400 or 480x640 (height x width), one of the bundle's.")
]
WeightsOption = Annotated[
    str | None,
    typer.Option(help="Which weights of a checkpoint that holds several: model, ema, ..."),
]
Sha256Option = Annotated[str | None, typer.Option(help="SHA-256 that bundle.json must have.")]
SupportsOption = Annotated[
    Path | None,
    typer.Option(help="Classes that were kept with segment --save-supports, or by the page."),
]
