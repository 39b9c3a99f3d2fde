"""The `--support NAME=IMAGE,MASK` option of several verbs."""

from __future__ import annotations

from pathlib import Path

from hsnet_trt.errors import InputError


def parse_shots(
    support: list[str] | None, supports: Path | None
) -> dict[str, list[tuple[str, str]]]:
    """The images and masks of each class, in the order they were given.

    Args:
        support: what followed each `--support`.
        supports: a file of encoded supports, which may stand in place of them.

    Raises:
        InputError: one is not understood, or there are none at all.
    """
    shots: dict[str, list[tuple[str, str]]] = {}
    for text in support or ():
        name, _, files = text.partition("=")
        image, _, mask = files.rpartition(",")
        if not (name and image and mask):
            raise InputError(
                "--support is not understood",
                expected="NAME=IMAGE,MASK",
                found=text,
                fix="for instance --support mug=mug.jpg,mug_mask.png",
            )
        shots.setdefault(name, []).append((image, mask))
    if not shots and supports is None:
        raise InputError(
            "no support was given",
            expected="an image of the object and its mask",
            fix="add --support NAME=IMAGE,MASK, or --supports FILE.npz",
        )
    return shots
