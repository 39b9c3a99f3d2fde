"""Nothing that models are judged on is in a source that the recipe learns from."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hsnet_trt.benchmarks.accuracy import demo_photographs
from hsnet_trt.benchmarks.accuracy.demo_photographs import held_out
from hsnet_trt.benchmarks.real_v1.photographs import Photograph, photographs
from hsnet_trt.benchmarks.recipe import drawings, left_out
from hsnet_trt.benchmarks.recipe.left_out import WORDS, check_left_out, shows_judged
from hsnet_trt.benchmarks.recipe.sources import MASKS
from hsnet_trt.errors import InputError


def is_left_out(name: str) -> bool:
    return held_out(name) or shows_judged(name)


def test_each_class_of_the_judge_is_known_by_its_own_name() -> None:
    assert set(WORDS) == {photograph.kind for photograph in photographs()}
    for kind in WORDS:
        assert is_left_out(kind), kind


def test_each_photograph_of_the_judge_is_left_out_by_its_name() -> None:
    """Even before its hash is looked at."""
    for photograph in photographs():
        if photograph.package in {"gcompris-qt-data", "scikit-image"}:
            stem = Path(photograph.member).stem
            collection = photograph.member.split("/")[0]
            gathered = collection in demo_photographs._COLLECTIONS
            if gathered or photograph.package == "scikit-image":
                assert is_left_out(stem), photograph.member


@pytest.mark.parametrize(
    "name",
    ["tropical-fish", "cat-face", "black-cat", "police-car", "motorized-wheelchair", "hot-beverage",
     "hammer-and-wrench", "wind-face", "categorization-screwDriver3", "japanese-castle", "plyers",
     "measuringTape2", "tokyo-tower", "lizard", "guide-dog", "tuna_Fish", "windmill11"],
)  # fmt: skip
def test_other_names_of_the_same_things_are_known(name: str) -> None:
    assert shows_judged(name)


@pytest.mark.parametrize(
    "name",
    ["caterpillar", "cartwheel", "scatter", "horse", "hatching-chick", "education", "rocket"],
)
def test_parts_of_words_are_not_taken_for_words(name: str) -> None:
    assert not shows_judged(name)


def test_no_mask_to_learn_from_is_of_the_judge() -> None:
    masks = sorted(MASKS.glob("*.png"))
    assert len(masks) >= 60
    for mask in masks:
        assert not is_left_out(mask.stem), mask
        with Image.open(mask) as opened:
            assert opened.mode == "1"
            assert 0.01 < float(np.asarray(opened).mean()) < 0.9, mask


def test_a_photograph_of_the_judge_is_found_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/other.webp").write_bytes(b"other")
    check_left_out(tmp_path)
    (tmp_path / "a/harmless.webp").write_bytes(b"judged")
    sha256 = hashlib.sha256(b"judged").hexdigest()
    one = Photograph("mug", "blue", "scikit-image", "x.png", sha256)
    monkeypatch.setattr(left_out, "photographs", lambda: (one,))
    with pytest.raises(InputError, match=r"harmless\.webp is what models are judged by"):
        check_left_out(tmp_path)


def icons(names: list[str]) -> dict[str, bytes]:
    listed = {
        "width": 8, "height": 8, "icons": {name: {"body": "<path/>"} for name in names},
        "aliases": {"ship": {"parent": names[0]}},
    }  # fmt: skip
    groups = {"Objects": ["key", "scissors"], "Travel & Places": ["ship"], "Flags": ["flag"]}
    groups |= {name: [] for name in drawings._GROUPS if name not in groups}
    return {
        "icons.json": json.dumps(listed).encode(),
        "metadata.json": json.dumps({"categories": groups}).encode(),
        "chars.json": json.dumps({"1f511": "key"}).encode(),
    }


def test_drawings_are_classes_by_name_in_every_style_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.zeros((8, 8, 4), np.uint8)
    picture[2:6, 2:6] = (200, 10, 10, 255)
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    monkeypatch.setattr(drawings, "_renderer", lambda: lambda svg: content.getvalue())

    def archive(style: drawings.Style, packages: Path) -> dict[str, bytes]:
        if style.name == "fluent-3d":
            return {"assets/1f511.webp": content.getvalue()}
        return icons(["key", "scissors"] if style.name == "noto" else ["key"])

    monkeypatch.setattr(drawings, "_archive", archive)
    drawn = drawings.draw(tmp_path, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "ship"]
    assert {path.stem for path in (tmp_path / "key").iterdir()} == {s.name for s in drawings.STYLES}
    assert drawn == len(list(tmp_path.rglob("*.webp"))) == 8 + 7
    with Image.open(tmp_path / "key/noto.webp") as made:
        assert made.mode == "RGBA" and made.getpixel((0, 0))[3] == 0
