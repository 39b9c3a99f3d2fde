"""`hsnet-trt demo`: the whole pipeline on real photographs, in one command."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hsnet_trt.cli.shared.options import WeightsOption
from hsnet_trt.cli.shared.places import check_folder, check_installed
from hsnet_trt.cli.shared.values import command_line

if TYPE_CHECKING:
    from rich.console import Console

    from hsnet_trt.cli.shared.demo_picture import Row
    from hsnet_trt.runtime.segmenter import FewShotSegmenter

_HERE = Path(__file__).parent
_MASKS, _PHOTOGRAPHS = _HERE / "demo_masks", _HERE / "demo_photographs"
# Class, support, query. The last one is hard: the scissors are of different kinds.
PAIRS = (
    ("statue-of-liberty", "near", "far"),
    ("eiffel-tower", "near", "far"),
    ("windmill", "podgoschi", "khokhlovka"),
    ("multimeter", "red", "blue"),
    ("scissors", "surgical", "orange"),
)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the picture and the bundle.")] = Path(
        "demo_output"
    ),
    target: Annotated[str, typer.Option(help="The RTX card to build engines for.")] = "rtx-4090",
    checkpoint: Annotated[
        str,
        typer.Option(
            help="An HSNet checkpoint; 'shipped' is the one in this package, at 400 x 400."
        ),
    ] = "shipped",
    weights: WeightsOption = None,
) -> None:
    """Export, build TensorRT engines, segment photographs, and draw the results.

    Each row of the picture is one thing in two photographs: one is the support, the other the
    query. The first is scikit-image's motorcycle stereo pair, the others come with the package.
    """
    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.cli.shared.demo_picture import Row, draw_demo
    from hsnet_trt.runtime.segmenter import FewShotSegmenter

    console = plain_console()
    check_installed("matplotlib", "skimage")
    check_folder(out)
    bundle = out / "bundle"
    _export(console, checkpoint, weights, bundle)
    engines = _build(console, bundle, target)
    rows: list[Row] = []
    with FewShotSegmenter.load(bundle) as segmenter:
        for name, support, given, query, truth in photographs():
            with console.status(f"segmenting: {name}"):
                segmenter.clear()
                segmenter.set_support(name, support, given)
                segmenter.segment(query)  # the first call allocates memory; the second is timed
                rows.append(Row(support, given, query, truth, segmenter.segment(query)))
        picture = draw_demo(out / "demo.png", rows, _caption(segmenter, rows))
        console.print(_summary(segmenter, rows))
    console.print(engines)
    console.print(f"picture: {picture}\nbundle:  {bundle}", highlight=False)
    if not segmenter.trained:
        text = "The weights are random: the masks show the pipeline, no model."
        console.print(text, style="yellow")


def _export(console: Console, checkpoint: str, weights: str | None, bundle: Path) -> None:
    from hsnet_trt.cli.shared.progress import StepBar
    from hsnet_trt.export.bundle import export_bundle
    from hsnet_trt.model.checkpoint import load_checkpoint

    with StepBar(console) as bar:
        bar("reading the weights", 0, 1)
        model = load_checkpoint(checkpoint, weights=weights)
        size = model.size or (400, 400)
        # Its engines are FP32, and so is what segments here.
        manifest = export_bundle(
            model, bundle, sizes=[size], precisions=["fp32"], command=command_line(), progress=bar
        )
    worst = max(figure.max_difference / figure.logits_std for figure in manifest.parity)
    parity = f"logits within {worst:.1e} of their spread"
    console.print(f"exported {model.name} at {size[0]} x {size[1]}: {parity}", highlight=False)


def _build(console: Console, bundle: Path, target: str) -> str:
    """Build FP32 engines into the bundle if TensorRT-RTX is installed; returns a line about it."""
    import importlib.util

    from hsnet_trt.cli.shared.progress import BuildProgress
    from hsnet_trt.export.build_engine import build_engine
    from hsnet_trt.export.engines.options import EngineSpec

    if importlib.util.find_spec("tensorrt_rtx") is None:
        return "engines: none, TensorRT-RTX is not installed (pip install 'hsnet-trt[rtx]')"
    with BuildProgress(console) as progress:
        built = build_engine(
            bundle,
            target,
            "fp32",
            spec=EngineSpec(flavour="tensorrt_rtx"),
            on_event=progress,
            command=command_line(),
        )
    sizes = [built.manifest.files[e.file].bytes for e in built.manifest.engines]
    return f"engines: {len(sizes)} for {target}, {sum(sizes) / 2**20:.0f} MiB, in the bundle"


def photographs() -> list[tuple[str, Any, Any, Any, Any]]:
    """Rows of class, support, its mask, query, and the mask that a person made of the query.

    Pictures are uint8 [H,W,3], masks bool [H,W].
    """
    left, right = _motorcycles()
    rows = [("motorcycle", left, _mask("left"), right, _mask("right"))]
    for name, support, query in PAIRS:
        (shown, given), (asked, truth) = (_photograph(name, which) for which in (support, query))
        rows.append((name.replace("-", " "), shown, given, asked, truth))
    return rows


def _photograph(name: str, which: str) -> tuple[Any, Any]:
    import numpy as np
    from PIL import Image

    path = _PHOTOGRAPHS / name / f"{which}.jpg"
    mask = Image.open(path.with_suffix(".png"))
    return np.asarray(Image.open(path).convert("RGB")), np.asarray(mask.convert("1"))


def _motorcycles() -> tuple[Any, Any]:
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


def _caption(segmenter: FewShotSegmenter, rows: list[Row]) -> str:
    steps = ", ".join(f"{step} {ms:.0f} ms" for step, ms in rows[-1].result.timing.items())
    weights = "" if segmenter.trained else " · random weights: the pipeline, not the model"
    network = f"HSNet {segmenter.backbone}, {segmenter.precision}"
    return f"{network} · {segmenter.backend} on {segmenter.device} · {steps}{weights}"


def _summary(segmenter: FewShotSegmenter, rows: list[Row]) -> object:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="HSNet-TRT", show_header=False, title_style="bold")
    table.add_row("network", f"{segmenter.backbone}, {segmenter.size[0]} x {segmenter.size[1]}")
    table.add_row("weights", "trained" if segmenter.trained else Text("random", style="yellow"))
    table.add_row("backend", f"{segmenter.backend} ({segmenter.backend_reason})")
    for row in rows:
        table.add_row(f"IoU: {row.result.classes[0]}", f"{100 * row.overlap:.1f} %")
    for step, milliseconds in rows[-1].result.timing.items():
        table.add_row(step, f"{milliseconds:.0f} ms")
    return table
