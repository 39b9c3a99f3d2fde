"""Supports as they are named on a command line: `--support`, `--labels` and `--supports`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from hsnet_trt.cli.shared.options import SupportsOption
from hsnet_trt.errors import InputError

if TYPE_CHECKING:
    from hsnet_trt import FewShotSegmenter
    from hsnet_trt.runtime.pictures.images import Pixels
    from hsnet_trt.runtime.pictures.masks import Mask

# An image's path, and its mask: a path, or bool [H,W].
Shot: TypeAlias = "tuple[str, str | Mask]"

_EXPECTED = "NAME=IMAGE,MASK or NAME=IMAGE:box=X,Y,W,H or NAME=IMAGE:scribble=PNG"
_BOX = re.compile(r"(.+):box=(-?\d+),(-?\d+),(-?\d+),(-?\d+)")
_SCRIBBLE = re.compile(r"(.+):scribble=(.+)")
_VALUE = re.compile(r"(.+):value=(\d+)")


@dataclass(frozen=True)
class SupportOptions:
    """What objects look like: a group of options, see `groups.flatten`."""

    support: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=IMAGE,MASK",
            help="One shot of a class; repeat for shots and classes. In place of ,MASK: "
            ":box=X,Y,W,H or :scribble=PNG (white on the object, black beside it). MASK may be "
            "LabelMe's JSON; MASK:value=N takes one label of a PNG.",
        ),
    ] = None
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            help="COCO JSON, LabelMe JSON or a folder of it; each label is a class. Repeat."
        ),
    ] = None
    labels_images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images that --labels names; by default its own."),
    ] = None
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", help="Only this label of --labels; repeat for more."),
    ] = None
    shots: Annotated[
        int,
        typer.Option(
            min=1, help="Images per class from --labels; from COCO's, those that show most of it."
        ),
    ] = 5
    supports: SupportsOption = None

    def read(self) -> dict[str, list[Shot]]:
        """The images and masks of each class, in the order they were given.

        Returns:
            By class: an image's path and its mask, a path or bool [H,W]. Empty where `--supports`
            alone was given.

        Raises:
            InputError: one is not understood, has no object, or there are none at all.
            HSNetError: it needs OpenCV or pycocotools, which is not installed.
        """
        found: dict[str, list[Shot]] = {}
        for text in self.support or ():
            name, _, files = text.partition("=")
            if not (name and files):
                raise _not_understood(text)
            found.setdefault(name, []).append(_shot(name, files, text))
        if self.labels:
            from hsnet_trt.data.labels.labels import read_labels

            labelled = read_labels(self.labels, self.labels_images, self.class_, self.shots)
            for name, pairs in labelled.items():
                found.setdefault(name, []).extend((str(image), mask) for image, mask in pairs)
        if not found and self.supports is None:
            raise InputError(
                "no support was given",
                expected="an image of the object and its mask",
                fix="add --support NAME=IMAGE,MASK, or --supports FILE.npz",
            )
        return found

    def files(self, shots: Mapping[str, Sequence[Shot]]) -> list[str | os.PathLike[str]]:
        """The files that the options name, and the images of `shots`, which `read` returned."""
        named: list[str | os.PathLike[str]] = [*(self.labels or ())]
        for text in self.support or ():
            files = text.partition("=")[2]
            image, mask = _split(files)
            named += filter(None, (image, mask, _VALUE.sub(r"\1", mask)))
            if match := _SCRIBBLE.fullmatch(files):
                named.append(match[2])
        named += [image for pairs in shots.values() for image, _ in pairs]
        return named

    def give(
        self,
        segmenter: FewShotSegmenter,
        shots: dict[str, list[Shot]],
        crop: float | None = None,
    ) -> None:
        """Give a segmenter the classes of the file `--supports`, then those that `read` returned.

        The latter are cropped about their objects, with so much room.

        Raises:
            InputError: the file is not one, or a support is not what it should be.
            BackendError: the backend failed.
        """
        if self.supports is not None:
            segmenter.load_supports(self.supports)
        for name, pairs in shots.items():
            images, masks = zip(*pairs, strict=True)
            segmenter.set_support(name, list(images), list(masks), crop=crop)


def _shot(name: str, files: str, text: str) -> Shot:
    """One shot; what ends a file's name is never mistaken where the file is there by that name."""
    image, mask = _split(files)
    if Path(mask).is_file() and Path(image).is_file():
        return image, _labelme(mask, name) if mask.lower().endswith(".json") else mask
    if match := _BOX.fullmatch(files):
        from hsnet_trt.data.labels.grabcut import mask_from_box

        x, y, width, height = (int(number) for number in match.groups()[1:])
        return match[1], mask_from_box(_read(match[1]), (x, y, width, height))
    if ":box=" in files:
        raise InputError(
            "the box of --support is not understood",
            expected="IMAGE:box=X,Y,W,H: its top left corner, width and height, in whole pixels",
            found=text,
        )
    if match := _SCRIBBLE.fullmatch(files):
        from hsnet_trt.data.labels.grabcut import mask_from_scribble

        return match[1], mask_from_scribble(_read(match[1]), *read_scribble(match[2]))
    if not (image and mask):
        raise _not_understood(text)
    if match := _VALUE.fullmatch(mask):
        return image, read_value(match[1], int(match[2]))
    return image, _labelme(mask, name) if mask.lower().endswith(".json") else mask


def _split(files: str) -> tuple[str, str]:
    """IMAGE and MASK: at the comma that leaves two files, or else at the last one."""
    commas = [place for place, letter in enumerate(files) if letter == ","]
    for place in commas:
        image, mask = files[:place], files[place + 1 :]
        if Path(image).is_file() and Path(mask).is_file():
            return image, mask
    image, _, mask = files.rpartition(",")
    return image, mask


def read_scribble(path: str) -> tuple[Mask, Mask]:
    """Strokes as a picture: white ones on the object, black ones beside it.

    Transparent, grey and coloured pixels are ignored, and so are the soft edges of strokes.

    Returns:
        bool [H,W] each: on the object, beside it.

    Raises:
        InputError: it is no picture.
    """
    import numpy as np

    from hsnet_trt.runtime.pictures.images import open_image
    from hsnet_trt.runtime.pictures.orientation import upright

    with open_image(path, "the scribble") as image:
        values = np.asarray(upright(image).convert("RGBA"))
    colour, seen = values[..., :3], values[..., 3] >= 128
    return (colour >= 250).all(axis=2) & seen, (colour <= 5).all(axis=2) & seen


def read_value(path: str, value: int) -> Mask:
    """Where a picture of labels has a value: bool [H,W].

    Raises:
        InputError: it is no such picture, or has no such value.
    """
    import numpy as np

    from hsnet_trt.runtime.pictures.images import open_image
    from hsnet_trt.runtime.pictures.orientation import upright

    with open_image(path, "the mask") as image:
        if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
            raise InputError(
                f"{path} does not hold labels",
                expected="a palette or a grey picture",
                found=f"mode {image.mode}",
            )
        labels = np.asarray(upright(image))
    mask: Mask = labels == value
    if not mask.any():
        raise InputError(
            f"{path} has no label {value}",
            found=f"the labels {_some(np.unique(labels).tolist())}",
            fix="take one of these",
        )
    return mask


def _some(values: list[int]) -> str:
    return ", ".join(map(str, values[:20])) + (", ..." if len(values) > 20 else "")


def _labelme(path: str, name: str) -> Mask:
    from hsnet_trt.data.labels.labelme import read_labelme

    return read_labelme(Path(path)).mask(name, alone=True)


def _read(image: str) -> Pixels:
    from hsnet_trt.runtime.pictures.images import read_image

    return read_image(image, "the support image")


def _not_understood(text: str) -> InputError:
    return InputError(
        "--support is not understood",
        expected=_EXPECTED,
        found=text,
        fix="for instance --support mug=mug.jpg,mug_mask.png or mug=mug.jpg:box=40,30,120,150",
    )
