"""What was found, as rows; with pycocotools and supervision it is tested among the extras."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers.pictures.results import result
from helpers.places import ROOT

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.pictures.detections import coco_dataset, detections


def test_rows() -> None:
    mug, cup = detections(result())
    assert (mug["class"], mug["box"], mug["area"]) == ("mug", [5, 3, 36, 17], 17 * 26 + 1)
    assert mug["score"] == pytest.approx((17 * 26 * 0.25 + 1) / (17 * 26 + 1))
    assert (cup["class"], cup["box"], cup["area"], cup["score"]) == ("cup", [59, 39, 1, 1], 1, 0.75)
    assert [row["score"] for row in detections(result(scores=False))] == [None, None]


def test_names_of_images_are_told_apart(tmp_path) -> None:
    def names(*paths) -> list[str]:
        dataset = coco_dataset([(path, (4, 5), []) for path in paths], ["mug"])
        assert [image["id"] for image in dataset["images"]] == list(range(1, 1 + len(paths)))
        return [image["file_name"] for image in dataset["images"]]

    assert names(tmp_path / "a.jpg") == ["a.jpg"]
    assert names(tmp_path / "a.jpg", tmp_path / "b/a.jpg") == ["a.jpg", "b/a.jpg"]
    assert names(tmp_path / "c/a.jpg", tmp_path / "b/../b/a.jpg") == ["c/a.jpg", "b/a.jpg"]
    assert names("x/a.jpg", "x/b.jpg") == ["a.jpg", "b.jpg"]
    assert names() == []


def test_without_scores_or_libraries() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "sys.modules['pycocotools'] = sys.modules['supervision'] = None\n"
        "from helpers.pictures.results import result\n"
        "from hsnet_trt.errors import HSNetError\n"
        "for call in (result().to_coco, result().to_supervision):\n"
        "    try: call()\n"
        "    except HSNetError as error: print(error.fix)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "tests")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "hsnet-trt[labels]" in done.stdout and "hsnet-trt[supervision]" in done.stdout
    with pytest.raises(InputError, match="no scores"):
        result(scores=False).to_coco()
