"""`hsnet-trt demo`: the whole pipeline on real photographs, in one command."""

from __future__ import annotations

import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from hsnet_trt.runtime.result import Segmentation
    from hsnet_trt.runtime.segmenter import FewShotSegmenter

_MASKS = Path(__file__).parent / "demo_masks"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the picture and the bundle.")] = Path(
        "demo_output"
    ),
    target: Annotated[str, typer.Option(help="The RTX card to build engines for.")] = "rtx-4090",
    checkpoint: Annotated[
        Path | None, typer.Option(help="An HSNet checkpoint; by default random ResNet-50 weights.")
    ] = None,
) -> None:
    """Export, build TensorRT engines, segment a photograph, and draw what came out.

    The photographs are scikit-image's motorcycle stereo pair: one is the support, the other the
    query.
    """
    from rich.console import Console

    from hsnet_trt.cli.demo_picture import draw_demo
    from hsnet_trt.runtime.segmenter import FewShotSegmenter

    console = Console()
    bundle = out / "bundle"
    _export(console, checkpoint, bundle)
    engines = _build(console, bundle, target)
    support, query = _photographs()
    given, truth = (_mask(side) for side in ("left", "right"))
    with FewShotSegmenter.load(bundle) as segmenter:
        with console.status("segmenting"):
            segmenter.set_support("motorcycle", support, given)
            segmenter.segment(query)  # the first call allocates; the second is what one sees
            result = segmenter.segment(query)
        caption = _caption(segmenter, result)
        picture = draw_demo(out / "demo.png", support, given, query, result, caption)
        found = result.masks["motorcycle"]
        overlap = (found & truth).sum() / (found | truth).sum()
        console.print(_summary(segmenter, result.timing, float(overlap)))
    console.print(engines)
    console.print(f"picture: {picture}\nbundle:  {bundle}", highlight=False)
    if not segmenter.trained:
        console.print(
            "[yellow]The weights are random: the mask shows the pipeline, not the model."
            " With a trained checkpoint: hsnet-trt demo --checkpoint best_model.pt[/]"
        )


def _export(console: Console, checkpoint: Path | None, bundle: Path) -> None:
    from hsnet_trt.cli.steps import StepBar
    from hsnet_trt.export.bundle import export_bundle
    from hsnet_trt.model.checkpoint import load_checkpoint
    from hsnet_trt.model.recipe import recipe_model

    with StepBar(console) as bar:
        bar("reading the weights", 0, 1)
        model = load_checkpoint(checkpoint) if checkpoint else recipe_model("resnet50")
        command = shlex.join(["hsnet-trt", *sys.argv[1:]])
        manifest = export_bundle(model, bundle, command=command, progress=bar)
    worst = max(figure.max_difference / figure.logits_std for figure in manifest.parity)
    console.print(
        f"exported {model.name} at 400 x 400: logits within {worst:.1e} of their spread",
        highlight=False,
    )


def _build(console: Console, bundle: Path, target: str) -> str:
    """Build FP32 engines into the bundle where TensorRT-RTX is installed; says what was done."""
    import importlib.util

    from hsnet_trt.export.build_engine import build_engine
    from hsnet_trt.export.build_progress import BuildProgress

    if importlib.util.find_spec("tensorrt_rtx") is None:
        return "engines: none, TensorRT-RTX is not installed (pip install 'hsnet-trt[rtx]')"
    with BuildProgress(console) as progress:
        built = build_engine(bundle, target, "fp32", flavour="tensorrt_rtx", on_event=progress)
    sizes = [built.manifest.files[e.file].bytes for e in built.manifest.engines]
    return f"engines: {len(sizes)} for {target}, {sum(sizes) / 2**20:.0f} MiB, in the bundle"


def _photographs() -> tuple[Any, Any]:
    """scikit-image's motorcycle pair (Middlebury stereo benchmark, 2014), uint8 [500,741,3]."""
    from skimage import data

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the disparity map, which is not used, warns
        left, right, _ = data.stereo_motorcycle()
    return left, right


def _mask(side: str) -> Any:
    """The motorcycle in one of the two pictures, bool [500,741]: from the pair's disparities."""
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(_MASKS / f"motorcycle_{side}_mask.png").convert("1"))


def _caption(segmenter: FewShotSegmenter, result: Segmentation) -> str:
    steps = ", ".join(f"{step} {ms:.0f} ms" for step, ms in result.timing.items())
    weights = "" if segmenter.trained else " · random weights: the pipeline, not the model"
    network = f"HSNet {segmenter.backbone}, {segmenter.precision}"
    return f"{network} · {segmenter.backend} on {segmenter.device} · {steps}{weights}"


def _summary(segmenter: FewShotSegmenter, timing: dict[str, float], overlap: float) -> object:
    from rich.table import Table

    table = Table(title="HSNet-TRT", show_header=False, title_style="bold")
    table.add_row("network", f"{segmenter.backbone}, {segmenter.size[0]} x {segmenter.size[1]}")
    table.add_row("weights", "trained" if segmenter.trained else "[yellow]random[/]")
    table.add_row("backend", f"{segmenter.backend} ({segmenter.backend_reason})")
    table.add_row("IoU with the true mask", f"{100 * overlap:.1f} %")
    for step, milliseconds in timing.items():
        table.add_row(step, f"{milliseconds:.0f} ms")
    return table
