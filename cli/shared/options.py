"""The arguments and options that several verbs share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NewType

import typer

from hsnet_trt.cli.shared.values import parse_bytes, parse_size

if TYPE_CHECKING:
    from rich.console import Console

    from hsnet_trt import FewShotSegmenter

# (height, width). A type of its own, since typer takes a tuple for an option of several values.
Size = NewType("Size", tuple[int, int])


def size_option(note: str) -> Any:
    """An option whose values are read by `parse_size`.

    Args:
        note: what follows the form of a size in the help.
    """
    text = f"400 or 480x640 (height x width){note}"
    return typer.Option(parser=parse_size, metavar="SIZE", help=text)


BundleArgument = Annotated[Path, typer.Argument(help="The bundle, a folder that export wrote.")]
BackendOption = Annotated[
    str, typer.Option(help="auto, tensorrt, tensorrt_rtx, onnxruntime_cuda or onnxruntime.")
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        help="fp32, fp16 or int8; by default fp16 on a GPU and fp32 on a CPU, if the bundle has it."
    ),
]
LoweringOption = Annotated[
    str | None,
    typer.Option(
        help="conv2d, conv3d or packed, of those exported; auto times them the first time, and "
        "remembers the fastest on this machine."
    ),
]
GpuMemoryOption = Annotated[
    int | None,
    typer.Option(
        parser=parse_bytes,
        metavar="BYTES",
        help="Limit for what onnxruntime_cuda allocates on a GPU that is shared, as in 4GiB.",
    ),
]
SizeOption = Annotated[Size | None, size_option(", one of the bundle's; by default its first.")]
WeightsOption = Annotated[
    str | None,
    typer.Option(help="Which weights, if the checkpoint holds several: model, ema, ..."),
]
ContrastOption = Annotated[
    float | None,
    typer.Option(
        help="Weight of the background contrast (not in the paper); 0 for none. By default the "
        "checkpoint's own."
    ),
]
SelfSupportOption = Annotated[
    float | None,
    typer.Option(
        help="Weight of self-support, a second look at the query by its own first answer (not in "
        "the paper); 0 for none. By default the checkpoint's own."
    ),
]
RefineOption = Annotated[
    bool | None,
    typer.Option(
        "--refine/--no-refine",
        help="Refine the masks' edges by the picture's colours and a guided filter (not in the "
        "paper). By default as the checkpoint or the bundle says.",
    ),
]
Sha256Option = Annotated[str | None, typer.Option(help="SHA-256 that bundle.json must have.")]
SupportsOption = Annotated[
    Path | None,
    typer.Option(help="A file of classes from segment --save-supports or from the page."),
]


@dataclass(frozen=True)
class RunOptions:
    """How a bundle's network is loaded: a group of options, see `groups.flatten`."""

    backend: BackendOption = "auto"
    precision: PrecisionOption = None
    size: SizeOption = None
    sha256: Sha256Option = None
    lowering: LoweringOption = None
    gpu_memory: GpuMemoryOption = None
    refine: RefineOption = None

    def load(self, bundle: Path, console: Console) -> FewShotSegmenter:
        """Load the bundle, and print what runs it.

        Raises:
            HSNetError: as of `FewShotSegmenter.load`.
        """
        from hsnet_trt import FewShotSegmenter

        segmenter = FewShotSegmenter.load(
            bundle,
            backend=self.backend,
            size=self.size,
            sha256=self.sha256,
            precision=self.precision,
            lowering=self.lowering,
            gpu_memory=self.gpu_memory,
            refine=self.refine,
        )
        console.print(f"{segmenter.backend}, {segmenter.precision}, on {segmenter.device}")
        if self.lowering == "auto":
            console.print(segmenter.backend_reason)
        return segmenter
