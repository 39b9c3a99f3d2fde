"""LabelMe's shapes against scikit-image and arithmetic; files that lie, and where images may be."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image
from skimage.draw import polygon2mask

from hsnet_trt.data.labels.label_files import image_path
from hsnet_trt.data.labels.labelme import from_content, read_labelme
from hsnet_trt.data.labels.labels import read_labels
from hsnet_trt.errors import HSNetError, InputError

SIZE = (90, 120)
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n%%EndComments\n%%EOF\n"


def shape(kind: str | None, points: list, label: str = "mug", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


def labelme(*shapes: dict[str, Any], image: object = "mug.jpg") -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image,
        "imageData": None,
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
    }


def save(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def png(array: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def mask_of(*shapes: dict[str, Any], label: str = "mug") -> np.ndarray:
    mask = from_content(labelme(*shapes), Path("x.json")).mask(label)
    assert mask.dtype == np.bool_ and mask.shape == SIZE
    return mask


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_shapes_of_labelme() -> None:
    corners = [[10.5, 12], [70, 8.25], [101, 60], [55, 40], [30, 80]]
    for kind in ("polygon", None):
        truth = polygon2mask(SIZE, np.array(corners)[:, ::-1])
        assert iou(mask_of(shape(kind, corners)), truth) > 0.95
    diamond = [[60.0, 10], [90, 40], [60, 70], [30, 40]]
    turned = mask_of(shape("oriented_rectangle", diamond))
    assert turned.sum() == pytest.approx(2 * 30 * 31 + 1, abs=20) and turned[12, 60]
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    box = (x >= 20) & (x <= 60) & (y >= 15) & (y <= 40)
    np.testing.assert_array_equal(mask_of(shape("rectangle", [[60, 40], [20, 15]])), box)
    disc = (x - 50) ** 2 + (y - 45) ** 2 <= 25**2
    assert (
        iou(mask_of(shape("circle", [[50, 45], [70, 60]])), disc) > 0.96
    )  # the border belongs to it
    part = np.random.default_rng(0).random((30, 41)) < 0.5
    for stored in (part, part.astype(np.uint8) * 255, part.astype(np.uint8)):
        mask = mask_of(shape("mask", [[7, 9], [47, 38]], mask=png(stored)))
        np.testing.assert_array_equal(mask[9:39, 7:48], part)
        assert mask.sum() == part.sum()


def test_shapes_of_one_label_are_joined_and_may_lie_outside() -> None:
    one = shape("rectangle", [[-20, -5], [10, 10]])
    two = shape("rectangle", [[100, 80], [300, 300]])
    other = shape("rectangle", [[30, 30], [50, 50]], "cup")
    mask = mask_of(one, other, two)
    assert mask[:11, :11].all() and mask[80:, 100:].all() and mask.sum() == 11 * 11 + 10 * 20
    assert mask_of(one, other, two, label="cup").sum() == 21 * 21


def test_the_only_label_may_have_another_name() -> None:
    one, other = shape("circle", [[9, 9], [12, 9]]), shape("circle", [[9, 9], [12, 9]], "cup")
    content = from_content(labelme(one), Path("x.json"))
    assert content.mask("tea mug", alone=True).any()
    with pytest.raises(InputError, match="no label tea mug"):
        content.mask("tea mug")
    with pytest.raises(InputError, match="no label") as caught:
        from_content(labelme(one, other), Path("x.json")).mask("tea mug", alone=True)
    assert "mug, cup" in str(caught.value)


@pytest.mark.parametrize(
    "broken",
    [
        shape("polygon", [[1, 1], [5, 5]]),
        shape("circle", [[1, 1]]),
        shape("line", [[1, 1], [5, 5]]),
        shape("point", [[1, 1]]),
        shape("polygon", [[1, 1], [5, 5], [1e300, 4]]),
        shape("polygon", [[1, 1], [5, 5], [float("nan"), 4]]),
        shape("polygon", [[1, 1], [5, 5], [4]]),
        shape("polygon", [[1, 1], [5, 5], "ab"]),
        shape("polygon", 5),
        shape("mask", [[0, 0], [4, 4]], mask="no base64!"),
        shape("mask", [[0, 0], [4, 4]], mask=base64.b64encode(b"no png").decode()),
        shape("mask", [[0, 0], [4, 4]], mask=base64.b64encode(POSTSCRIPT).decode()),
        shape("mask", [[0, 0], [4, 4]]),
        shape("mask", [[0, 0], [4, 4]], mask=png(np.ones((9, 9), bool))),
        shape("mask", [[118, 0], [122, 4]], mask=png(np.ones((5, 5), bool))),
        {"label": "mug"},
    ],
)
def test_shapes_that_are_none(broken: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: Image.new("L", (5, 5)))
    with pytest.raises(InputError, match=r"shape 1 of x\.json cannot be drawn"):
        mask_of(shape("circle", [[9, 9], [12, 9]]), broken)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "shapes",
                    "label",
                    "points",
                    "shape_type",
                    "imageHeight",
                    "imageWidth",
                    "mask",
                    "images",
                    "annotations",
                    "categories",
                    "id",
                    "name",
                    "image_id",
                    "category_id",
                    "segmentation",
                    "file_name",
                    "height",
                    "width",
                    "size",
                    "counts",
                    "area",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)


@settings(max_examples=150, deadline=None)
@given(json_values)
def test_any_json_is_read_or_refused(content: Any) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.json")
        path.write_text(json.dumps(content))
        with pytest.raises(HSNetError):  # there is no image there
            read_labels([path])


def test_files_that_hold_no_labels(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"shapes": [')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    save(tmp_path / "results.json", [{"image_id": 1}])
    save(tmp_path / "other.json", {"a": 1})
    huge = labelme(shape("circle", [[9, 9], [12, 9]]))
    save(tmp_path / "huge.json", {**huge, "imageHeight": 10**9})
    save(tmp_path / "none.json", labelme())
    for path in sorted(tmp_path.glob("*.json")):
        with pytest.raises(InputError, match=path.name):
            read_labels([path])
    for path in (tmp_path / "absent.json", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=path.name):
            read_labels([path])
    detections = {
        "images": [{"id": 1, "file_name": "mug.jpg", "height": 60, "width": 80}],
        "categories": [{"id": 1, "name": "mug"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40]}],
    }
    with pytest.raises(InputError, match="no labels") as caught:
        read_labels([save(tmp_path / "boxes.json", detections)])
    assert "boxes" in str(caught.value.expected) and ":box=" in str(caught.value.fix)
    with pytest.raises(InputError, match="--labels"):
        read_labelme(save(tmp_path / "coco.json", {"annotations": []}))


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../mug.jpg",
        "a/../../mug.jpg",
        "C:\\mug.jpg",
        "..\\mug.jpg",
        "\\\\a\\b",
        "C:mug.jpg",
        "a\\..\\..\\mug.jpg",
        "",
        None,
        5,
        ["mug.jpg"],
        "mug\0.jpg",
    ],
)
def test_images_elsewhere_are_refused(tmp_path: Path, name: object) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "mug.jpg").write_bytes(b"secret")
    path = save(tmp_path / "in/x.json", labelme(shape("circle", [[9, 9], [12, 9]]), image=name))
    for images in (None, tmp_path / "in"):
        with pytest.raises(InputError, match="outside its folder"):
            read_labels([path], images)


def test_where_images_are(tmp_path: Path) -> None:
    """Below the folder, by either system's names; a backslash may also belong to a name."""
    (tmp_path / "deep").mkdir()
    for name in ("deep/mug.jpg", "odd\\name.jpg", "a..b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    for name, found in (
        ("deep/mug.jpg", "deep/mug.jpg"),
        ("deep\\mug.jpg", "deep/mug.jpg"),
        (".\\deep\\mug.jpg", "deep/mug.jpg"),
        ("odd\\name.jpg", "odd\\name.jpg"),
        ("a..b.jpg", "a..b.jpg"),
    ):
        assert image_path(tmp_path, name, Path("x.json")) == tmp_path / found


def test_a_folder_of_labelme(tmp_path: Path) -> None:
    """Its files in their order; so many images a class; classes that are wanted."""
    (tmp_path / "images").mkdir()
    for k in range(4):
        shapes = [shape("rectangle", [[0, 0], [9 + k, 9]])]
        shapes += [shape("circle", [[50, 50], [60, 50]], "cup")] * (k % 2)
        save(tmp_path / f"{k}.json", labelme(*shapes, image=f"{k}.jpg"))
        (tmp_path / f"images/{k}.jpg").write_bytes(b"")
    (tmp_path / "._0.json").write_bytes(b"no labels")  # as macOS leaves them
    images = tmp_path / "images"
    found = read_labels([tmp_path], images, shots=3)
    assert list(found) == ["mug", "cup"]
    assert [path.name for path, _ in found["mug"]] == ["0.jpg", "1.jpg", "2.jpg"]
    assert [mask.sum() for _, mask in found["mug"]] == [100, 110, 120]
    assert [path.name for path, _ in found["cup"]] == ["1.jpg", "3.jpg"]
    one = read_labels([tmp_path / "3.json", tmp_path / "1.json"], images, ["cup"])
    assert {name: [path.name for path, _ in pairs] for name, pairs in one.items()} == {
        "cup": ["3.jpg", "1.jpg"]
    }
    with pytest.raises(InputError, match="no label is called plate"):
        read_labels([tmp_path], images, ["plate"])
    with pytest.raises(InputError, match="--labels-images"):
        read_labels([tmp_path])
