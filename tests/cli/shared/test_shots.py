"""`--support` in all its forms, in process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from hsnet_trt.cli.shared.shots import SupportOptions
from hsnet_trt.errors import InputError

SIZE = (80, 100)
DISC = (30, 20, 70, 60)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A red disc on blue, `mug.png`; and what says where it is."""
    image = Image.new("RGB", SIZE[::-1], (20, 40, 200))
    ImageDraw.Draw(image).ellipse(DISC, fill=(220, 30, 20))
    image.save(tmp_path / "mug.png")
    strokes = Image.new("RGBA", SIZE[::-1], (0, 0, 0, 0))
    pen = ImageDraw.Draw(strokes)
    pen.line((42, 40, 58, 40), fill="white", width=3)
    pen.line((5, 5, 90, 5), fill="black", width=3)
    pen.rectangle((10, 70, 20, 75), fill="red")
    strokes.save(tmp_path / "strokes.png")
    labels = np.zeros(SIZE, np.uint8)
    labels[25:50, 35:60], labels[:5] = 3, 7
    Image.fromarray(labels).save(tmp_path / "labels.png")
    palette = Image.fromarray(labels).convert("P")
    palette.putpalette(list(range(256)) * 3)
    palette.save(tmp_path / "palette.png")
    shapes = [
        {"label": name, "points": [[30, 20], [70, y]], "shape_type": "rectangle"}
        for name, y in (("mug", 60), ("cup", 30))
    ]
    size = {"imageHeight": SIZE[0], "imageWidth": SIZE[1], "imagePath": "mug.png"}
    (tmp_path / "labels.json").write_text(json.dumps({"shapes": shapes, **size}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def disc() -> np.ndarray:
    image = Image.new("1", SIZE[::-1])
    ImageDraw.Draw(image).ellipse(DISC, fill=1)
    return np.asarray(image)


def the_mask(text: str) -> np.ndarray:
    ((name, ((_, mask),)),) = SupportOptions([text]).read().items()
    assert name == text.partition("=")[0]
    assert mask.dtype == np.bool_ and mask.shape == SIZE
    return mask


def test_a_box(folder: Path) -> None:
    mask = the_mask("mug=mug.png:box=28,18,45,45")
    assert (mask & disc()).sum() / (mask | disc()).sum() >= 0.98


def test_a_scribble(folder: Path) -> None:
    mask = the_mask("mug=mug.png:scribble=strokes.png")
    assert (mask & disc()).sum() / (mask | disc()).sum() >= 0.98


def test_one_label_of_several(folder: Path) -> None:
    for name in ("labels.png", "palette.png"):
        mask = the_mask(f"mug=mug.png,{name}:value=3")
        assert mask[25:50, 35:60].all() and mask.sum() == 25 * 25
    with pytest.raises(InputError, match="no label 4") as caught:
        SupportOptions(["mug=mug.png,labels.png:value=4"]).read()
    assert "0, 3, 7" in str(caught.value)
    with pytest.raises(InputError, match="does not hold labels"):
        SupportOptions(["mug=mug.png,mug.png:value=4"]).read()


def test_a_file_of_labelme(folder: Path) -> None:
    assert the_mask("mug=mug.png,labels.json").sum() == 41 * 41
    assert the_mask("cup=mug.png,labels.json").sum() == 41 * 11
    with pytest.raises(InputError, match="no label plate"):
        SupportOptions(["plate=mug.png,labels.json"]).read()
    found = SupportOptions(["mug=a.jpg,b.png"], [folder / "labels.json"], class_=["mug"]).read()
    assert [image for image, _ in found["mug"]] == ["a.jpg", str(folder / "mug.png")]


@pytest.mark.parametrize(
    ("files", "there", "pair"),
    [
        ("a.jpg,b.png", (), ("a.jpg", "b.png")),
        ("a,b:c.jpg,d.png", (), ("a,b:c.jpg", "d.png")),
        ("a.jpg,b,c.png", ("a.jpg", "b,c.png"), ("a.jpg", "b,c.png")),
        ("a,b.jpg,c,d.png", ("a,b.jpg", "c,d.png"), ("a,b.jpg", "c,d.png")),
        ("a:box=1,2,3,4.png", ("a:box=1", "2,3,4.png"), ("a:box=1", "2,3,4.png")),
        ("a.jpg,b:value=3", ("a.jpg", "b:value=3"), ("a.jpg", "b:value=3")),
        ("a:scribble=b.jpg,c.png", ("a:scribble=b.jpg", "c.png"), ("a:scribble=b.jpg", "c.png")),
    ],
)
def test_names_with_commas_and_colons(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: str,
    there: tuple[str, ...],
    pair: tuple[str, str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in there:
        (tmp_path / name).write_bytes(b"")
    assert SupportOptions([f"x={files}"]).read() == {"x": [pair]}


def test_a_box_of_a_name_with_colons_and_commas(folder: Path) -> None:
    (folder / "mug.png").rename(folder / "my:box=1,mug.png")
    mask = the_mask("mug=my:box=1,mug.png:box=28,18,45,45")
    assert (mask & disc()).sum() / (mask | disc()).sum() >= 0.98


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mug.png,mask.png", "NAME=IMAGE,MASK"),
        ("=mug.png,mask.png", "NAME=IMAGE,MASK"),
        ("mug=mug.png", "NAME=IMAGE,MASK"),
        ("mug=mug.png:box=1,2,3", "X,Y,W,H"),
        ("mug=mug.png:box=1.5,2,3,4", "X,Y,W,H"),
        ("mug=mug.png:box=1,2,300,4", "not inside"),
        ("mug=absent.png:box=1,2,3,4", "absent.png"),
        ("mug=mug.png:scribble=absent.png", "absent.png"),
        ("mug=mug.png:scribble=labels.png", "no scribble on the object"),
        ("mug=mug.png,absent.json", "absent.json"),
        ("mug=mug.png,absent.png:value=1", "absent.png"),
    ],
)
def test_what_is_not_understood(folder: Path, text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        SupportOptions([text]).read()
    assert says in str(caught.value)


@pytest.mark.parametrize("given", [{"class_": ["mug"]}, {"labels_images": Path("images")}])
def test_what_is_said_of_labels_needs_labels(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="--labels, which is not given"):
        SupportOptions(["mug=a.jpg,b.png"], **given).read()
