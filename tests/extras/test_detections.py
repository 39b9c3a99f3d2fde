"""Results as COCO's files and as supervision's detections; the libraries judge."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.pictures.results import result

from hsnet_trt.runtime.pictures.detections import coco_dataset, encode_mask

coco = pytest.importorskip("pycocotools.mask", reason="the extra `labels` is not installed")
COCO = pytest.importorskip("pycocotools.coco").COCO


def test_coco_out(tmp_path: Path) -> None:
    """pycocotools loads it as annotations, and its rows as results for annotations."""
    one = result()
    dataset = coco_dataset(
        [("x/a.jpg", (40, 60), one.to_coco(1)), ("x/b.jpg", (40, 60), one.to_coco(2))], one.classes
    )
    (tmp_path / "a.json").write_text(json.dumps(dataset))
    (tmp_path / "rows.json").write_text(json.dumps(one.to_coco(1) + one.to_coco(2)))
    loaded = COCO(str(tmp_path / "a.json"))
    for judge in (loaded, loaded.loadRes(str(tmp_path / "rows.json"))):
        assert [c["name"] for c in judge.loadCats(judge.getCatIds())] == list(one.classes)
        assert len(judge.getAnnIds()) == 4
        for annotation in judge.loadAnns(judge.getAnnIds(imgIds=[2])):
            name = judge.loadCats(annotation["category_id"])[0]["name"]
            mask = judge.annToMask(annotation).astype(bool)
            np.testing.assert_array_equal(mask, one.masks[name])
            assert annotation["area"] == coco.area(judge.annToRLE(annotation))
            box = coco.toBbox(judge.annToRLE(annotation))
            np.testing.assert_array_equal(annotation["bbox"], box)
            assert annotation["score"] == pytest.approx(one.scores[name][mask].mean())


def test_coco_judges_its_own_truth(tmp_path: Path) -> None:
    """COCOeval gives full marks to a result judged by itself."""
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    one = result()
    dataset = coco_dataset([("a.jpg", (40, 60), one.to_coco())], one.classes)
    (tmp_path / "a.json").write_text(json.dumps(dataset))
    truth = COCO(str(tmp_path / "a.json"))
    judge = evaluation.COCOeval(truth, truth.loadRes(one.to_coco()), "segm")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert judge.stats[0] == pytest.approx(1)


def test_supervision() -> None:
    sv = pytest.importorskip("supervision", reason="the extra `supervision` is not installed")
    one = result()
    found = one.to_supervision()
    assert isinstance(found, sv.Detections) and len(found) == 2
    np.testing.assert_array_equal(found.mask, [one.masks["mug"], one.masks["cup"]])
    np.testing.assert_array_equal(found.area, [17 * 26 + 1, 1])
    np.testing.assert_array_equal(found.class_id, [0, 2])
    np.testing.assert_array_equal(found.xyxy, [[5, 3, 41, 20], [59, 39, 60, 40]])
    assert found.data["class_name"].tolist() == ["mug", "cup"]
    assert found.confidence is not None and found.confidence[1] == pytest.approx(0.75)
    sure = found[found.confidence > 0.5]
    assert sure.data["class_name"].tolist() == ["cup"]
    picture = np.zeros((40, 60, 3), np.uint8)
    drawn = sv.MaskAnnotator(opacity=1).annotate(picture.copy(), found)
    np.testing.assert_array_equal(drawn.any(axis=2), one.masks["mug"] | one.masks["cup"])
    assert result(scores=False).to_supervision().confidence is None
    for mask in one.masks.values():
        mask[:] = False
    assert len(one.to_supervision()) == 0


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
