"""Supports for a sweep, and a segmenter that has them."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.pictures.scenes import GREEN, RED, scene

from hsnet_trt import FewShotSegmenter


@pytest.fixture(scope="module")
def supports(bundle, tmp_path_factory):
    path = tmp_path_factory.mktemp("supports") / "supports.npz"
    with FewShotSegmenter.load(bundle, "onnxruntime") as segmenter:
        for name, colour in (("red", RED), ("green", GREEN)):
            place = (slice(20, 100), slice(30, 150))
            mask = np.zeros((128, 192), bool)
            mask[place] = True
            segmenter.set_support(name, scene((128, 192), [(colour, place)]), mask)
        segmenter.save_supports(path)
    return path


@pytest.fixture(scope="module")
def local(bundle, supports):
    with FewShotSegmenter.load(bundle, "onnxruntime") as segmenter:
        segmenter.load_supports(supports)
        yield segmenter
