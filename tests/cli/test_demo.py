"""The demo's parts; `make demo` itself runs in continuous integration."""

import numpy as np
import pytest
from PIL import Image

from hsnet_trt.cli.demo import _mask, _motorcycles, photographs
from hsnet_trt.cli.shared.demo_picture import Row, draw_demo
from hsnet_trt.runtime.pictures.result import Segmentation


def test_masks_belong_to_the_photographs():
    """A pixel of the motorcycle lies, by the pair's own disparities, on it in the other picture."""
    data = pytest.importorskip("skimage.data")
    left, right = _motorcycles()
    masks = {side: _mask(side) for side in ("left", "right")}
    assert left.shape == right.shape == (*masks["left"].shape, 3)
    disparity = data.stereo_motorcycle()[2]
    rows, columns = np.nonzero(masks["left"] & np.isfinite(disparity))
    moved = np.round(columns - disparity[rows, columns]).astype(int)
    inside = moved >= 0
    assert masks["right"][rows[inside], moved[inside]].mean() > 0.98
    assert 0.2 < masks["left"].mean() < 0.4


def test_photographs_and_their_masks_are_as_large_and_the_thing_is_there():
    pytest.importorskip("skimage.data")
    rows = photographs()
    assert len(rows) == 6
    for name, support, given, query, truth in rows:
        for picture, mask in ((support, given), (query, truth)):
            assert picture.dtype == np.uint8 and picture.shape == (*mask.shape, 3), name
            assert 0.02 < mask.mean() < 0.9, name


def test_picture(tmp_path):
    rng = np.random.default_rng(0)
    support, query = rng.integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:50] = True
    result = Segmentation(
        masks={"thing": mask},
        scores={"thing": mask.astype(np.float32)},
        labels=mask.astype(np.uint8),
        classes=("thing",),
        timing={"match": 1.0},
    )
    truth = np.roll(mask, 10, axis=0)
    row = Row(support, mask, query, truth, result)
    assert row.overlap == pytest.approx(1 / 3)
    path = draw_demo(tmp_path / "new" / "demo.png", [row, row], "a caption")
    with Image.open(path) as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 100
