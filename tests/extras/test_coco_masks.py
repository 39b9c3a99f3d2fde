"""Masks as COCO's files hold them; pycocotools judges."""

from __future__ import annotations

import numpy as np
import pytest

from hsnet_trt.runtime.pictures.detections import encode_mask

coco = pytest.importorskip("pycocotools.mask", reason="the extra `sweep` is not installed")


def test_masks_as_coco_writes_them():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (3, 5), (64, 48), (2, 300)):
        for share in (0.0, 0.1, 0.5, 1.0):
            mask = rng.random(shape) < share
            encoded = encode_mask(mask)
            assert encoded["size"] == list(shape)
            runs = {**encoded, "counts": encoded["counts"].encode()}
            np.testing.assert_array_equal(coco.decode(runs).astype(bool), mask)
            assert coco.area(runs) == mask.sum()
