"""COCO's files in, and what the command writes of them; pycocotools judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.bundles.tiny_graphs import SIZE
from helpers.command import hsnet
from helpers.pictures.scenes import GREEN, RED, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.draw import polygon2mask

from hsnet_trt.data.labels.coco import _decode, read_coco
from hsnet_trt.data.labels.labels import read_labels
from hsnet_trt.errors import HSNetError, InputError

coco = pytest.importorskip("pycocotools.mask", reason="the extra `labels` is not installed")
COCO = pytest.importorskip("pycocotools.coco").COCO
SHAPE = (60, 80)


def blob(seed: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A few rectangles, some over the border."""
    rng, mask = np.random.default_rng(seed), np.zeros(shape, bool)
    for _ in range(3):
        y, x = (int(rng.integers(0, n)) for n in shape)
        mask[y : y + int(rng.integers(1, 30)), x : x + int(rng.integers(1, 30))] = True
    return mask


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Uncompressed, by counting: column after column, the background first."""
    flat = np.concatenate([[False], mask.T.ravel(), [False]])
    flips = np.flatnonzero(flat[1:] != flat[:-1])
    return {"size": list(mask.shape), "counts": np.diff([0, *flips, mask.size]).tolist()}


def compressed(mask: np.ndarray) -> dict[str, Any]:
    encoded = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


POLYGON = [[10.0, 10, 50, 12, 60, 50, 30, 30], [2, 2, 8, 2, 5, 9]]


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Three images, and every form of segmentation; cats by size: c.jpg, a.jpg, b.jpg."""
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", SHAPE[::-1]).save(tmp_path / "images" / name)
    rows = [
        (11, 7, POLYGON, 0, 1000),
        (12, 7, run_lengths(blob(1)), 1, 300),
        (13, 7, compressed(blob(2)), 0, 4000),
        (13, 7, compressed(blob(3)), 0, 10),
        (11, 9, compressed(blob(4)), 0, 10),
        (12, 9, [], 0, 99),
    ]
    content = {
        "images": [
            {"id": 11 + k, "file_name": f"{name}.jpg", "height": 60, "width": 80}
            for k, name in enumerate("abc")
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 7, "name": "cat"}],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "segmentation": segmentation,
                "iscrowd": crowd,
                "area": area,
                "bbox": [0, 0, 1, 1],
            }
            for number, (image, category, segmentation, crowd, area) in enumerate(rows, 1)
        ],
    }
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def test_coco_in(annotations: Path) -> None:
    images = annotations.parent / "images"
    found = read_labels([annotations], images)
    assert list(found) == ["dog", "cat"]
    assert [path for path, _ in found["cat"]] == [images / f"{n}.jpg" for n in "cab"]
    masks = dict(zip("cab", (mask for _, mask in found["cat"]), strict=True))
    judge = COCO(str(annotations))
    for letter, image_id in zip("abc", (11, 12, 13), strict=True):
        drawn = [
            judge.annToMask(one) for one in judge.imgToAnns[image_id] if one["category_id"] == 7
        ]
        np.testing.assert_array_equal(masks[letter], np.any(drawn, axis=0))
    # By hand, too: what pycocotools reads may not be what was meant.
    np.testing.assert_array_equal(masks["b"], blob(1))
    np.testing.assert_array_equal(masks["c"], blob(2) | blob(3))
    truth = np.zeros(SHAPE, bool)
    for corners in POLYGON:
        # COCO counts from a pixel's corner, scikit-image from its middle.
        truth |= polygon2mask(SHAPE, np.array(corners).reshape(-1, 2)[:, ::-1] - 0.5)
    assert (masks["a"] & truth).sum() / (masks["a"] | truth).sum() > 0.96
    ((path, mask),) = found["dog"]  # the other has no segmentation
    assert path.name == "a.jpg"
    np.testing.assert_array_equal(mask, blob(4))

    few = read_labels([annotations], images, ["cat"], shots=1)
    assert list(few) == ["cat"] and [path.name for path, _ in few["cat"]] == ["c.jpg"]
    with pytest.raises(InputError, match="--labels-images"):
        read_labels([annotations])


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 1, 5, 5]],
        [[1, 1, 5, 5, 6, 6, 7]],
        [[1, 1, 5, 5, 1e300, 6]],
        [[1, 1, 5, 5, float("nan"), 6]],
        [["a"] * 6],
        ["abcdef"],
        [5],
        {"size": [60, 81], "counts": [4860]},
        {"size": [60, 80], "counts": [4801]},
        {"size": [60, 80], "counts": [-1, 4801]},
        {"size": [60, 80], "counts": []},
        {"size": [60, 80]},
        {"size": [60, 80], "counts": None},
        {"size": [60, 80], "counts": "04040404"},
        {"size": [60, 80], "counts": "\u20ac"},
        {"size": [60, 80], "counts": "oooooooooooooooo"},
        "polygon",
    ],
)
def test_segmentations_that_are_none(annotations: Path, segmentation: Any) -> None:
    content = json.loads(annotations.read_text())
    content["annotations"][0]["segmentation"] = segmentation
    annotations.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"annotation 1 of .* cannot be drawn"):
        read_labels([annotations], annotations.parent / "images")


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 300), st.integers(1, 300))
def test_compressed_counts(seed: int, height: int, width: int) -> None:
    """Large and small numbers, noise and blobs: as pycocotools wrote them."""
    noise = np.random.default_rng(seed).random((height, width)) < 0.5
    for mask in (noise, blob(seed, (height, width)), noise & False, noise | True):
        found = _decode(compressed(mask), (height, width))
        np.testing.assert_array_equal(found, mask)
        np.testing.assert_array_equal(_decode(run_lengths(mask), (height, width)), mask)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=[chr(k) for k in range(48, 112)], max_size=40))
def test_any_compressed_counts_give_a_mask_or_are_refused(counts: str) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 60, "width": 80}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "segmentation": {"size": [60, 80], "counts": counts}}
        ],
    }
    ((_, draw),) = read_coco(content, Path("x.json"), Path())["cat"]
    try:
        mask = draw()
    except HSNetError:
        return
    encoded = {"size": [60, 80], "counts": counts.encode()}
    np.testing.assert_array_equal(mask, coco.decode(encoded).astype(bool))


def test_coco_that_is_none(annotations: Path) -> None:
    content = json.loads(annotations.read_text())
    for part, entries in (
        ("images", None),
        ("images", []),
        ("images", [{"id": 11}]),
        ("categories", [{"id": 7}]),
        ("categories", []),
        ("annotations", [{"image_id": 11}]),
        ("annotations", 5),
        ("annotations", [{**content["annotations"][0], "area": "x"}]),
    ):
        annotations.write_text(json.dumps({**content, part: entries}))
        with pytest.raises(InputError, match=r"annotations\.json"):
            read_labels([annotations], annotations.parent / "images")
    content["images"][0]["file_name"] = "../images/a.jpg"
    annotations.write_text(json.dumps(content))
    with pytest.raises(InputError, match="outside its folder"):
        read_labels([annotations], annotations.parent / "images")


def test_the_command_writes_what_it_reads(bundle: Path, tmp_path: Path) -> None:
    """Boxes in, COCO out; that is in again, and finds the same in the images it names."""
    place = np.s_[20:80, 30:110]
    for name, colour in (("red", RED), ("green", GREEN)):
        Image.fromarray(scene(SIZE, [(colour, place)])).save(tmp_path / f"{name}.png")
    query = scene((200, 300), [(RED, np.s_[50:150, 20:120]), (GREEN, np.s_[50:150, 180:280])])
    (tmp_path / "below").mkdir()
    Image.fromarray(query).save(tmp_path / "query.png")
    Image.fromarray(query[:, ::-1]).save(tmp_path / "below/query.png")
    done = hsnet(
        "segment",
        bundle,
        "query.png",
        "below/query.png",
        "--support",
        "red=red.png:box=28,18,84,64",
        "--support",
        "green=green.png:box=28,18,84,64",
        "--coco",
        "--out",
        "out",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    judge = COCO(str(tmp_path / "out/annotations.json"))
    assert sorted(i["file_name"] for i in judge.imgs.values()) == ["below/query.png", "query.png"]
    assert len(judge.anns) == 4
    for image_id, stem in ((1, "query"), (2, "query-2")):
        labels = np.asarray(Image.open(tmp_path / f"out/{stem}.png"))
        for annotation in judge.imgToAnns[image_id]:
            inside = judge.annToMask(annotation).astype(bool)
            assert (labels[inside] == annotation["category_id"]).mean() > 0.95
    sv = pytest.importorskip("supervision")
    loaded = sv.DetectionDataset.from_coco(str(tmp_path), str(tmp_path / "out/annotations.json"))
    assert loaded.classes == ["red", "green"] and len(loaded) == 2
    for path, _, found in loaded:
        stem = "query-2" if Path(path).parent.name == "below" else "query"
        labels = np.asarray(Image.open(tmp_path / f"out/{stem}.png"))
        assert len(found) == 2
        for inside, class_id in zip(found.mask, found.class_id, strict=True):
            assert (labels[inside] == class_id + 1).mean() > 0.95
    again = hsnet(
        "segment",
        bundle,
        "query.png",
        "--labels",
        "out/annotations.json",
        "--labels-images",
        ".",
        "--class",
        "green",
        "--out",
        "again",
        folder=tmp_path,
    )
    assert again.returncode == 0, again.stderr
    labels = np.asarray(Image.open(tmp_path / "again/query.png"))
    assert labels[100, 230] == 1 and labels[100, 70] == 0
