"""`hsnet-trt export`: from a checkpoint to a bundle of ONNX graphs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hsnet_trt.runtime.manifest import Manifest


def export(
    checkpoint: Annotated[Path, typer.Option(help="The PyTorch checkpoint of an HSNet.")],
    out: Annotated[Path, typer.Option(help="The bundle to write.")],
    size: Annotated[
        list[str] | None,
        typer.Option(help="Network input, 400 or 480x640 (height x width); may be repeated."),
    ] = None,
    lowering: Annotated[
        list[str] | None,
        typer.Option(
            help="conv2d or conv3d for engines, packed for CPUs; may be repeated, the default "
            "first. By default conv2d and packed."
        ),
    ] = None,
    correlation: Annotated[
        list[str] | None,
        typer.Option(
            help="native (default), or plugin, for the correlation plugin; may be repeated, "
            "the default first."
        ),
    ] = None,
    resize: Annotated[
        str, typer.Option(help="Photographs to that size: stretch (as the paper) or letterbox.")
    ] = "stretch",
) -> None:
    """Write the ONNX graphs of CHECKPOINT, checked against PyTorch, as a bundle."""
    from rich.console import Console

    from hsnet_trt.cli.steps import StepBar
    from hsnet_trt.export.bundle import DEFAULT_LOWERINGS, export_bundle
    from hsnet_trt.export.profiles import parse_size
    from hsnet_trt.model.checkpoint import load_checkpoint

    sizes = [parse_size(text) for text in size or ["400"]]
    console = Console(stderr=True)
    with StepBar(console) as bar:
        bar("reading the checkpoint", 0, 1)
        manifest = export_bundle(
            load_checkpoint(checkpoint),
            out,
            sizes=sizes,
            lowerings=lowering or DEFAULT_LOWERINGS,
            correlations=correlation or ["native"],
            resize=resize,
            command=shlex.join(["hsnet-trt", *sys.argv[1:]]),
            progress=bar,
        )
    for form in dict.fromkeys((f.size, f.lowering, f.correlation) for f in manifest.parity):
        console.print(_parity_line(manifest, *form), highlight=False)
    total = sum(record.bytes for record in manifest.files.values()) / 2**20
    console.print(f"{out}: {manifest.model.backbone}, {len(manifest.files)} files, {total:.1f} MiB")


def _parity_line(manifest: Manifest, size: tuple[int, int], lowering: str, correlation: str) -> str:
    form = (size, lowering, correlation)
    figures = [f for f in manifest.parity if (f.size, f.lowering, f.correlation) == form]
    name = lowering if correlation == "native" else f"{lowering} {correlation}"
    worst = {
        kind: max(f.max_difference for f in figures if f.against == f"torch-{kind}")
        for kind in ("float32", "float64")
    }
    batches = ", ".join(dict.fromkeys(f"{f.queries} x {f.supports}" for f in figures))
    return (
        f"{size[0]}x{size[1]} {name}: logits within {worst['float32']:.1e} of PyTorch's in"
        f" float32, {worst['float64']:.1e} in float64 (std {figures[0].logits_std:.2g};"
        f" queries x supports: {batches})"
    )
