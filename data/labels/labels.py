"""Supports from the files of labelling tools: COCO's JSON and LabelMe's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hsnet_trt.data.episodes.episode import Mask
from hsnet_trt.data.labels.coco import read_coco
from hsnet_trt.data.labels.label_files import Found, image_path, read_json
from hsnet_trt.data.labels.labelme import from_content
from hsnet_trt.errors import InputError


def read_labels(
    files: Sequence[Path],
    images: Path | None = None,
    classes: Sequence[str] | None = None,
    shots: int = 5,
) -> dict[str, list[tuple[Path, Mask]]]:
    """Read label files as supports: every label is a class.

    All shapes of one label in one image make one mask: instances, crowds and parts are joined.

    Args:
        files: COCO's JSON (polygons, run lengths), LabelMe's, or folders of LabelMe's.
        images: the folder of the images; None looks beside each file. Label files may only name
            images in or below it.
        classes: only these labels; None takes all.
        shots: most images per class: from a COCO file those with the largest area of it, otherwise
            the first ones.

    Returns:
        label -> (image, mask) pairs, in file order; the images exist, masks are bool [H,W].

    Raises:
        InputError: a file has the wrong format, an image is missing or outside its folder, or a
            class is in none of the files.
        HSNetError: COCO's polygons need pycocotools, which is not installed.
    """
    found: Found = {}
    for path in files:
        for file in _files_of(path):
            for name, more in _read(file, images or file.parent).items():
                found.setdefault(name, []).extend(more)
    for name in classes or ():
        if name not in found:
            raise InputError(
                f"no label is called {name}",
                expected=f"one of {', '.join(found) or 'none'}",
                fix="check --class, or leave it out for all labels",
            )
    wanted = [name for name in found if classes is None or name in classes]
    supports: dict[str, list[tuple[Path, Mask]]] = {}
    for name in wanted:
        chosen = found[name][:shots]
        for image, _ in chosen:
            if not image.is_file():
                raise InputError(
                    f"there is no image {image}, which the labels name",
                    fix="give the folder of the images: --labels-images FOLDER",
                )
        supports[name] = [(image, draw()) for image, draw in chosen]
    if not supports:
        raise InputError(
            f"there are no labels in {', '.join(map(str, files))}",
            expected="at least one shape, polygon or run lengths; boxes and keypoints are not used",
            fix="label an image, or give the file that holds the labels; for a box: "
            "--support NAME=IMAGE:box=X,Y,W,H",
        )
    return supports


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("[!.]*.json"))  # not hidden ones, such as macOS' ._1.json
    if not files:
        raise InputError(f"there are no labels in {path}", expected="files NAME.json")
    return files


def _read(path: Path, images: Path) -> Found:
    content = read_json(path)
    if "annotations" in content:
        return read_coco(content, path, images)
    labelme = from_content(content, path)
    image = image_path(images, labelme.image, path)
    return {name: [(image, partial(labelme.mask, name))] for name in labelme.labels}
