"""Masks from a COCO annotation file: polygons and run lengths."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hsnet_trt.data.episodes.episode import Mask
from hsnet_trt.data.labels.label_files import Found, check_size, image_path
from hsnet_trt.errors import HSNetError, InputError

_FAR = 1e6  # limit of a polygon's coordinates, because its outline is traced pixel by pixel


def read_coco(content: dict[str, Any], path: Path, images: Path) -> Found:
    """Find the masks in a COCO annotation file.

    Args:
        content: the file's object.
        path: the file, for errors.
        images: the folder of the images.

    Returns:
        for each category name, the images that show it, the largest area first, with a function
        that draws the union of its annotations there (crowds included).

    Raises:
        InputError: something is missing or not in COCO's format.
    """
    try:
        names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        entries = {entry["id"]: entry for entry in content["images"]}
        shown: dict[tuple[str, Any], list[dict[str, Any]]] = {}
        for annotation in content["annotations"]:
            entry = entries[annotation["image_id"]]
            if annotation.get("segmentation"):  # some have only a box or keypoints
                key = (names[annotation["category_id"]], entry["id"])
                shown.setdefault(key, []).append(annotation)
        areas = {key: sum(float(one.get("area") or 0) for one in shown[key]) for key in shown}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not a COCO annotation file",
            expected="images, categories, and annotations that refer to them by their ids",
            found=f"{type(error).__name__}: {error}",
        ) from error
    found: Found = {name: [] for name in names.values() if any(name == key[0] for key in shown)}
    for name, image_id in sorted(shown, key=lambda key: -areas[key]):
        entry = entries[image_id]
        size = check_size(entry.get("height"), entry.get("width"), path)
        draw: Callable[[], Mask] = partial(_union, shown[name, image_id], size, path)
        found[name].append((image_path(images, entry.get("file_name"), path), draw))
    return found


def _union(annotations: list[dict[str, Any]], size: tuple[int, int], path: Path) -> Mask:
    mask = np.zeros(size, np.bool_)
    for annotation in annotations:
        try:
            mask |= _decode(annotation["segmentation"], size)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"annotation {annotation.get('id')} of {path} cannot be drawn",
                expected=f"polygons or run lengths of an image of {size[0]} x {size[1]}",
                found=error,
            ) from error
    return mask


def _decode(segmentation: Any, size: tuple[int, int]) -> Mask:
    if isinstance(segmentation, list):
        return _fill(segmentation, size)
    if list(segmentation["size"]) != list(size):
        raise ValueError(f"run lengths of {segmentation['size']}")
    counts = segmentation["counts"]
    lengths = _uncompressed(counts) if isinstance(counts, str) else [int(n) for n in counts]
    if min(lengths, default=0) < 0 or sum(lengths) != size[0] * size[1]:
        raise ValueError(f"run lengths that add up to {sum(lengths)} pixels")
    inside = np.arange(len(lengths)) % 2 == 1  # column by column, background first
    return np.asarray(np.repeat(inside, lengths).reshape(size[1], size[0]).T)


def _uncompressed(counts: str) -> list[int]:
    """Decode run lengths in COCO's text form. (pycocotools leaves memory unset if they are short.)

    A number is written in groups of 5 bits, the lowest first, one character per group starting at
    "0". Bit 32 means that more groups follow; bit 16 of the last group is the sign. From the fourth
    number on, each is the difference to the one before the previous.
    """
    lengths: list[int] = []
    number = shift = 0
    for letter in counts:
        group = ord(letter) - 48
        if not 0 <= group < 64 or shift > 50:
            raise ValueError(f"run lengths with {letter!r}")
        number |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            number -= 1 << shift
        lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
        number = shift = 0
    if shift:
        raise ValueError("run lengths that are cut")
    return lengths


def _fill(polygons: list[Any], size: tuple[int, int]) -> Mask:
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise HSNetError(
            "COCO's polygons need pycocotools, which is not installed",
            found=error,
            fix="pip install 'hsnet-trt[labels]'",
        ) from error
    corners = [[float(value) for value in polygon] for polygon in polygons]
    for polygon in corners:
        if len(polygon) < 6 or len(polygon) % 2 or not np.abs(polygon).max() < _FAR:
            raise ValueError(f"a polygon of {len(polygon)} numbers")
    return np.asarray(coco.decode(coco.merge(coco.frPyObjects(corners, *size)))).astype(np.bool_)
