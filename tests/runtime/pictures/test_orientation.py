"""Turns by the EXIF tag, against Pillow's own."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from hsnet_trt.runtime.pictures.orientation import mask_fix, orientation, turns_sides, upright


def photograph(tag: object, kind: str = "PNG") -> Image.Image:
    """3 rows of 5 different pixels, stored with that orientation."""
    pixels = np.arange(15, dtype=np.uint8).reshape(3, 5) * 16
    exif = Image.Exif()
    exif[0x0112] = tag
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, exif=exif)
    return Image.open(stream)


@pytest.mark.parametrize("tag", range(1, 9))
def test_a_tiff_that_pillow_has_turned_is_not_turned_again(tag: int) -> None:
    image = photograph(tag, "TIFF")
    image.load()
    np.testing.assert_array_equal(upright(image), ImageOps.exif_transpose(photograph(tag)))


@pytest.mark.parametrize("tag", range(1, 9))
def test_it_turns_as_pillow_does(tag: int) -> None:
    image = photograph(tag)
    assert orientation(image) == tag
    expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(np.asarray(upright(image)), expected)
    assert turns_sides(tag) is (expected.shape == (5, 3))
    if tag > 1:
        expression = mask_fix(tag).partition(", 90")[0]
        found = eval(expression, {"np": np, "mask": np.asarray(image)})
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("tag", [0, 9, 300])
def test_an_orientation_that_does_not_exist_is_none(tag: int) -> None:
    image = photograph(tag)
    assert orientation(image) == 1 and not turns_sides(orientation(image))
    np.testing.assert_array_equal(np.asarray(upright(image)), np.asarray(image))


def test_without_a_block_or_with_a_broken_one_a_picture_is_upright() -> None:
    image = Image.new("L", (5, 3))
    assert orientation(image) == 1
    image.info["exif"] = b"Exif\x00\x00no header"
    assert orientation(image) == 1
