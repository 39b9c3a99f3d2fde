"""Resizing and normalising, against PIL and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.pictures.scenes import as_a_camera_gives_it
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from hsnet_trt.errors import BundleError
from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.pictures.preprocess import network_input, network_mask, place

SIDES = st.integers(1, 70)


def test_stretch_is_what_the_authors_do() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (123, 217, 3), dtype=np.uint8)
    batch, _ = network_input([image], (64, 96), Preprocessing())
    resized = np.asarray(Image.fromarray(image).resize((96, 64), Image.Resampling.BILINEAR))
    expected = (resized / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch[0], expected.transpose(2, 0, 1), atol=1e-6)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 9))
def test_views_of_bgr_and_padded_rows_are_prepared_to_the_bit(
    h: int, w: int, height: int, width: int, padding: int
) -> None:
    image = np.random.default_rng(h * w).integers(0, 256, (h, w, 3), dtype=np.uint8)
    view = as_a_camera_gives_it(image, padding)[:, :, ::-1]
    expected, _ = network_input([image], (height, width), Preprocessing())
    found, _ = network_input([view], (height, width), Preprocessing())
    np.testing.assert_array_equal(found, expected)


@given(SIDES, SIDES, SIDES, SIDES)
def test_letterbox_keeps_proportions_and_stays_inside(
    h: int, w: int, height: int, width: int
) -> None:
    p = place((h, w), (height, width), "letterbox")
    assert p.top >= 0 <= p.left
    assert p.top + p.content[0] <= height
    assert p.left + p.content[1] <= width
    assert p.content[0] == height or p.content[1] == width
    scale = min(height / h, width / w)
    assert abs(p.content[0] - h * scale) <= 1
    assert abs(p.content[1] - w * scale) <= 1
    assert abs((height - p.content[0]) - 2 * p.top) <= 1
    assert abs((width - p.content[1]) - 2 * p.left) <= 1


def test_letterbox_margins_are_the_mean_colour() -> None:
    image = np.full((10, 40, 3), 255, np.uint8)
    batch, placements = network_input([image], (64, 64), Preprocessing(resize="letterbox"))
    assert placements[0].content == (16, 64)
    assert (batch[0, :, :24] == 0).all()
    assert (batch[0, :, 40:] == 0).all()
    assert (batch[0, :, 24:40] > 2).all()


def test_unknown_policy() -> None:
    with pytest.raises(BundleError, match="resize policy"):
        place((4, 4), (8, 8), "crop")


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 2**32 - 1))
def test_masks_resize_as_torchs_nearest(h: int, w: int, height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((h, w)) > 0.5
    found = network_mask(mask, place((h, w), (height, width), "stretch"))
    tensor = torch.from_numpy(mask.astype(np.float32))[None, None]
    expected = functional.interpolate(tensor, (height, width), mode="nearest")[0, 0].numpy()
    np.testing.assert_array_equal(found, expected)


def test_mask_and_image_land_in_the_same_place() -> None:
    image = np.zeros((50, 200, 3), np.uint8)
    mask = np.zeros((50, 200), bool)
    image[10:40, 60:140], mask[10:40, 60:140] = 255, True
    preprocessing = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), resize="letterbox")
    batch, placements = network_input([image], (96, 96), preprocessing)
    plane = network_mask(mask, placements[0])
    assert ((batch[0, 0] > 0.5) != (plane > 0.5)).mean() < 0.02
    assert plane.sum() == pytest.approx(mask.mean() * 24 * 96, rel=0.07)
