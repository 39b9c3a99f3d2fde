"""`hsnet-trt segment`: photographs in, label maps and overlays out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hsnet_trt.cli.shared.options import BundleArgument, RunOptions
from hsnet_trt.cli.shared.places import check_file, check_folder, check_installed, check_kept
from hsnet_trt.cli.shared.shots import SupportOptions

if TYPE_CHECKING:
    from hsnet_trt import Segmentation

_COCO = "annotations.json"


def segment(
    bundle: BundleArgument,
    queries: Annotated[list[Path], typer.Argument(help="The photographs to segment.")],
    *,
    objects: SupportOptions,
    save_supports: Annotated[
        Path | None, typer.Option(help="Also write the encoded classes to this .npz file.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("segmented"),
    coco: Annotated[
        bool, typer.Option(help="Also write OUT/annotations.json: the results in COCO's format.")
    ] = False,
    run: RunOptions,
) -> None:
    """Segment photographs by support images and their masks.

    For each photograph, OUT gets NAME.png (pixel values are labels: 0 background, 1 the first
    class, ...) and NAME_overlay.jpg. Nothing is written if anything fails.
    """
    import json
    import shutil
    import tempfile

    from PIL import Image

    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.runtime.pictures.detections import coco_dataset
    from hsnet_trt.runtime.pictures.images import read_image
    from hsnet_trt.runtime.pictures.overlay import draw_overlay, label_picture

    check_folder(out)
    if save_supports is not None:
        check_file(save_supports, "--save-supports")
    if coco:
        check_installed("pycocotools")
    shots = objects.read()
    stems = _unique_stems(queries)
    outputs = [out / f"{stem}{end}" for stem in stems for end in (".png", "_overlay.jpg")]
    outputs += [out / _COCO] if coco else []
    outputs += [] if save_supports is None else [save_supports]
    check_kept(outputs, [*queries, *objects.files(shots)])
    console = plain_console(stderr=True)
    with run.load(bundle, console) as segmenter:
        objects.give(segmenter, shots)
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{out.name}.", dir=out.absolute().parent
        ) as scratch:
            found: list[tuple[Path, tuple[int, int], list[dict[str, Any]]]] = []
            for query, stem in zip(queries, stems, strict=True):
                pixels = read_image(query, "the query image")
                result = segmenter.segment(pixels)
                label_picture(result).save(Path(scratch, f"{stem}.png"))
                overlay = Image.fromarray(draw_overlay(pixels, result))
                overlay.save(Path(scratch, f"{stem}_overlay.jpg"), quality=92)
                if coco:
                    found.append((query, pixels.shape[:2], result.to_coco(1 + len(found))))
                console.print(f"{query}: {_summary(result)}", highlight=False)
            if coco:
                content = coco_dataset(found, segmenter.classes)
                Path(scratch, _COCO).write_text(json.dumps(content))
            if save_supports is not None:
                save_supports.absolute().parent.mkdir(parents=True, exist_ok=True)
                segmenter.save_supports(save_supports)
            out.mkdir(exist_ok=True)
            for path in sorted(Path(scratch).iterdir()):
                shutil.move(path, out / path.name)
    typer.echo(out)


def _unique_stems(paths: list[Path]) -> list[str]:
    """Names for the pictures: those of the photographs, numbered where two are the same."""
    stems: list[str] = []
    for path in paths:
        stem, number = path.stem, 2
        while stem in stems:
            stem, number = f"{path.stem}-{number}", number + 1
        stems.append(stem)
    return stems


def _summary(result: Segmentation) -> str:
    found = ", ".join(
        f"{name} {100 * result.masks[name].mean():.1f} %"
        + ("" if result.present[name] else " (not there)")
        for name in result.classes
    )
    times = ", ".join(f"{step} {ms:.0f}" for step, ms in result.timing.items())
    return f"{found}  ({times} ms)"
