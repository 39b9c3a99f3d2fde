"""The strokes and boxes that masks are made from, and the measure itself on drawn photographs."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.pictures.scenes import RED, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hsnet_trt import FewShotSegmenter
from hsnet_trt.benchmarks.accuracy import support_masks


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 60), st.integers(3, 60), st.integers(0, 10**6))
def test_strokes_lie_on_the_object_and_boxes_around_it(height: int, width: int, seed: int) -> None:
    rng, mask = np.random.default_rng(seed), np.zeros((height, width), bool)
    for _ in range(2):
        y, x = int(rng.integers(height)), int(rng.integers(width))
        mask[y : y + int(rng.integers(1, 30)), x : x + int(rng.integers(1, 30))] = True
    stroke = support_masks.cross(mask)
    assert stroke.any() and not stroke[~mask].any()
    assert not support_masks.below(mask)[mask].any()
    x, y, w, h = support_masks.box_of(mask)
    tight = np.zeros_like(mask)
    tight[y : y + h, x : x + w] = True
    assert not mask[~tight].any()
    assert mask[y, x : x + w].any() and mask[y + h - 1, x : x + w].any()
    x, y, w, h = support_masks.box_of(mask, 0.05)
    assert x >= 1 and y >= 1 and x + w <= width - 1 and y + h <= height - 1


def test_the_measure(tmp_path, monkeypatch) -> None:
    """A red ellipse, which the tiny bundle finds by its colour, in three places."""
    y, x = np.mgrid[:96, :128]
    for k, (row, column) in enumerate([(40, 50), (50, 70), (45, 60)]):
        mask = ((y - row) / 25) ** 2 + ((x - column) / 40) ** 2 < 1
        image = scene((96, 128), [])
        image[mask] = RED
        (tmp_path / "red").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"red/{k}.jpg", quality=95)
        Image.fromarray(mask).save(tmp_path / f"red/{k}.png")
    monkeypatch.setattr(support_masks, "PHOTOGRAPHS", tmp_path)
    with FewShotSegmenter.load(make_bundle(tmp_path / "bundle"), "onnxruntime") as segmenter:
        rows = support_masks.measure(segmenter)
    assert rows["drawn"][:2] == (1, 1)
    for kind in ("drawn", "GrabCut, tight box", "GrabCut, a cross"):
        assert min(rows[kind][:2]) > 0.85 and rows[kind][2] > 0.6
    assert rows["the tight box itself"][0] == pytest.approx(np.pi / 4, abs=0.03)
