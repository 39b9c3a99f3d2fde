"""`hsnet-trt export`: from a checkpoint to a bundle of ONNX graphs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hsnet_trt.cli.shared.options import (
    ContrastOption,
    RefineOption,
    SelfSupportOption,
    Size,
    WeightsOption,
    size_option,
)
from hsnet_trt.cli.shared.values import command_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hsnet_trt.runtime.bundle.figures import ParityFigure
    from hsnet_trt.runtime.bundle.manifest import Manifest


def export(
    checkpoint: Annotated[
        Path,
        typer.Option(
            help="A checkpoint of HSNet, or 'shipped': the small model in this package, trained "
            "for 400 x 400, and good at 320 and 256, too (--size)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The bundle to write.")],
    size: Annotated[
        list[Size] | None,
        size_option(
            "; may be repeated. By default what the checkpoint was trained for, where it says so, "
            "else 400."
        ),
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
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="fp32 or fp16; may be repeated. By default both, so that engines of either can be "
            "built from the bundle alone."
        ),
    ] = None,
    resize: Annotated[
        str,
        typer.Option(
            help="How to resize photographs: stretch (as in the paper), or letterbox, which keeps "
            "their proportions; self-support then takes its margins for background: better with "
            "--self-support 0."
        ),
    ] = "stretch",
    weights: WeightsOption = None,
    contrast: ContrastOption = None,
    self_support: SelfSupportOption = None,
    *,
    refine: RefineOption = None,
) -> None:
    """Write the ONNX graphs of CHECKPOINT, checked against PyTorch, as a bundle."""
    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.cli.shared.progress import StepBar
    from hsnet_trt.export.bundle import DEFAULT_LOWERINGS, EXPORT_PRECISIONS, export_bundle
    from hsnet_trt.model.checkpoint import load_checkpoint

    console = plain_console(stderr=True)
    with StepBar(console) as bar:
        bar("reading the checkpoint", 0, 1)
        model = load_checkpoint(
            checkpoint, weights=weights, contrast=contrast, self_support=self_support
        )
        model.refine = model.refine if refine is None else refine
        manifest = export_bundle(
            model,
            out,
            sizes=size or [model.size or (400, 400)],
            lowerings=lowering or DEFAULT_LOWERINGS,
            correlations=correlation or ["native"],
            precisions=precision or EXPORT_PRECISIONS,
            resize=resize,
            command=command_line(),
            progress=bar,
        )
    for line in _parity_lines(manifest):
        console.print(line, highlight=False)
    total = sum(record.bytes for record in manifest.files.values()) / 2**20
    console.print(f"{out}: {manifest.model.backbone}, {len(manifest.files)} files, {total:.1f} MiB")


def _parity_lines(manifest: Manifest) -> Iterator[str]:
    """One line for each size, form, precision and arithmetic."""
    groups: dict[tuple[int, int, str, str, str], list[ParityFigure]] = {}
    for f in manifest.parity:
        form = f.lowering if f.correlation == "native" else f"{f.lowering} {f.correlation}"
        groups.setdefault((*f.size, form, f.precision, f.arithmetic), []).append(f)
    for (height, width, form, precision, arithmetic), figures in groups.items():
        worst = {
            kind: max(f.max_difference for f in figures if f.against == f"torch-{kind}")
            for kind in ("float32", "float64")
        }
        batches = ", ".join(dict.fromkeys(f"{f.queries} x {f.supports}" for f in figures))
        spread = ""
        if precision != "fp32":
            p999 = max(f.p999_difference for f in figures)
            flips = 100 * max(f.flipped for f in figures)
            spread = f", 99.9 % within {p999:.1e}, {flips:.2g} % of positions flipped"
        by = " rounded after every operation" if arithmetic == "emulated" else ""
        yield (
            f"{height}x{width} {form} {precision}{by}: logits within {worst['float32']:.1e} of"
            f" PyTorch's in float32, {worst['float64']:.1e} in float64{spread}"
            f" (std {figures[0].logits_std:.2g}; queries x supports: {batches})"
        )
