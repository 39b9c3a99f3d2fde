"""Pictures of results."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.pictures.scenes import as_a_camera_gives_it
from hypothesis import given
from hypothesis import strategies as st

from hsnet_trt import Segmentation
from hsnet_trt.errors import InputError
from hsnet_trt.runtime.pictures.overlay import class_colour, draw_overlay, label_picture


def result_of(labels: np.ndarray, classes: int) -> Segmentation:
    names = tuple(f"c{i}" for i in range(classes))
    masks = {name: labels == i + 1 for i, name in enumerate(names)}
    scores = {name: mask.astype(np.float32) for name, mask in masks.items()}
    return Segmentation(masks, scores, labels, names, {})


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_only_labelled_pixels_change(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (height, width), dtype=np.uint8)
    image = np.full((height, width, 3), 100, np.uint8)
    picture = draw_overlay(image, result_of(labels, 3))
    assert picture.shape == image.shape
    assert (picture[labels == 0] == 100).all()
    assert (picture[labels > 0] != 100).any(axis=-1).all()
    assert (image == 100).all()
    np.testing.assert_array_equal(np.asarray(label_picture(result_of(labels, 3))), labels)


@pytest.mark.parametrize("padding", [0, 5])
def test_bgr_is_drawn_on_as_it_lies(padding: int) -> None:
    """The same picture by index; turned back it is what OpenCV writes, and no copy."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    labels = rng.integers(0, 3, (20, 30), dtype=np.uint8)
    given = as_a_camera_gives_it(image, padding)
    before = given.copy()
    drawn = draw_overlay(given[:, :, ::-1], result_of(labels, 2))
    np.testing.assert_array_equal(drawn, draw_overlay(image, result_of(labels, 2)))
    assert drawn[:, :, ::-1].flags.c_contiguous
    np.testing.assert_array_equal(given, before)


def test_colours_differ() -> None:
    assert len({class_colour(i) for i in range(60)}) == 60


def test_another_images_result() -> None:
    with pytest.raises(InputError, match="another image"):
        draw_overlay(np.zeros((4, 5, 3), np.uint8), result_of(np.zeros((5, 4), np.uint8), 1))
