"""Damaged and hostile files: each is read or refused by a named error, and touches nothing else.

HSNET_RELIABILITY=full reads 2,000 of each kind (docs/reliability.md).
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.places import ROOT
from PIL import Image
from reliability.amount import amount

from hsnet_trt.calibration.table import CalibrationTable, TensorRange
from hsnet_trt.runtime.segmenter import FewShotSegmenter

COUNT = amount(few=40, all_of_them=2_000)
CHILD = Path(__file__).with_name("read_mutated.py")
SIZE = (96, 128)


def mask() -> np.ndarray:
    plane = np.zeros(SIZE, bool)
    plane[20:60, 30:90] = True
    return plane


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole file of each kind, each in a folder of its own."""
    root = tmp_path_factory.mktemp("sources")
    make_bundle(root / "bundle")
    for name in ("supports", "table", "labelme", "coco"):
        (root / name).mkdir()
    with FewShotSegmenter.load(root / "bundle", "onnxruntime") as segmenter:
        segmenter.set_support("mug", np.full((*SIZE, 3), 90, np.uint8), mask())
        segmenter.set_support("cup", [np.full((*SIZE, 3), 200, np.uint8)] * 2, [mask()] * 2)
        segmenter.save_supports(root / "supports" / "supports.npz")
    thresholds = {"minmax": 1.0, "percentile": 0.9, "entropy": 0.8}
    ranges = {f"/layer{i}/conv": TensorRange(-1.0, 1.5, 4096, thresholds) for i in range(4)}
    table = CalibrationTable(
        "ab" * 32,
        "resnet50",
        SIZE,
        "conv2d",
        {"match": "cd" * 32},
        "percentile",
        "blobs",
        8,
        "a test",
        {"match": ranges, "features": ranges},
    )
    (root / "table" / "ranges.json").write_text(table.to_json())
    for folder in (root / "labelme", root / "coco"):
        Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(folder / "a.png")
        (folder / "labelme.json").write_text(json.dumps(labelme()))
        (folder / "coco.json").write_text(json.dumps(coco()))
    return root


def labelme() -> dict:
    stream = io.BytesIO()
    Image.fromarray(np.ones((5, 4), bool)).save(stream, "PNG")
    part = base64.b64encode(stream.getvalue()).decode()
    shapes = [
        {"label": "mug", "shape_type": "polygon", "points": [[3, 4], [60, 5], [40, 70]]},
        {"label": "mug", "shape_type": "rectangle", "points": [[70, 4], [90, 50]]},
        {"label": "cup", "shape_type": "circle", "points": [[50, 50], [60, 50]]},
        {"label": "cup", "shape_type": "mask", "points": [[5, 6], [8, 10]], "mask": part},
    ]
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": "a.png",
        "imageData": None,
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
    }


def coco() -> dict:
    """With a polygon only where pycocotools, which draws it, is installed."""
    counts = [30 * SIZE[0], 40 * SIZE[0], SIZE[0] * (SIZE[1] - 70)]
    crowd = {
        "id": 2, "image_id": 1, "category_id": 7, "area": 3840, "iscrowd": 1,
        "segmentation": {"size": list(SIZE), "counts": counts},
    }  # fmt: skip
    polygon = {
        "id": 1, "image_id": 1, "category_id": 7, "area": 900, "iscrowd": 0,
        "segmentation": [[3, 4, 60, 5, 40, 70]], "bbox": [3, 4, 57, 66],
    }  # fmt: skip
    drawn = importlib.util.find_spec("pycocotools") is not None
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 7, "name": "mug"}],
        "annotations": [polygon, crowd] if drawn else [crowd],
    }


def read_all(kind: str, source: Path, work: Path) -> tuple[Counter, list[str]]:
    """What came of COUNT files; a child that dies is started again behind the file it died of."""
    came: Counter = Counter()
    bare: list[str] = []
    first = 0
    while first < COUNT:
        command = [sys.executable, str(CHILD), kind, str(source), str(work)]
        child = subprocess.run(
            [*command, str(first), str(COUNT - first)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=3600,
            check=False,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        )
        lines = [json.loads(line) for line in child.stdout.splitlines() if line.startswith("{")]
        done = [line for line in lines if "came" in line]
        came.update(line["came"] for line in done)
        bare += [f"{kind} {line['seed']}: {line['why']}" for line in done if "why" in line]
        if child.returncode == 0:
            break
        assert lines, child.stderr
        last = lines[-1]["seed"]
        came["bare"] += 1
        bare.append(f"{kind} {last}: the process ended with {child.returncode}")
        first = last + 1
    return came, bare


@pytest.mark.parametrize("kind", ["bundle", "supports", "table", "labelme", "coco"])
def test_only_named_errors_and_nothing_outside(kind, sources, tmp_path, record_property):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    came, bare = read_all(kind, sources / kind, tmp_path)
    record_property(kind, dict(came))
    print(kind, dict(came))
    assert not bare, "\n".join(bare)
    assert sum(came.values()) == COUNT
    assert came["refused"] > COUNT / 4
    assert {p.name for p in tmp_path.iterdir()} == {"outside", "place"}
    assert [p.name for p in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret"
