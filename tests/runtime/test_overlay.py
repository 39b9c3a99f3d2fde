"""Pictures of results."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsnet_trt import Segmentation
from hsnet_trt.errors import InputError
from hsnet_trt.runtime.overlay import class_colour, draw_overlay, label_picture


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


def test_colours_differ() -> None:
    assert len({class_colour(i) for i in range(60)}) == 60


def test_another_images_result() -> None:
    with pytest.raises(InputError, match="another image"):
        draw_overlay(np.zeros((4, 5, 3), np.uint8), result_of(np.zeros((5, 4), np.uint8), 1))
