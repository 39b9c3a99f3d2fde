"""Broken files give an error that names the file; with `skipped` they are counted and listed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hsnet_trt.data.episodes.episode import Skipped
from hsnet_trt.data.sets.fss import fss
from hsnet_trt.data.sets.pascal import pascal
from hsnet_trt.data.sets.splits import read_coco_split, read_pascal_split
from hsnet_trt.errors import InputError


def remove_mask(base: Path, name: str) -> Path:
    path = base / "SegmentationClassAug" / f"{name}.png"
    path.unlink()
    return path


def wrong_size(base: Path, name: str) -> Path:
    path = base / "SegmentationClassAug" / f"{name}.png"
    Image.fromarray(np.full((30, 31), 1, np.uint8)).save(path)
    return path


def colour_mask(base: Path, name: str) -> Path:
    path = base / "SegmentationClassAug" / f"{name}.png"
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(path)
    return path


def cut_short(base: Path, name: str) -> Path:
    path = base / "JPEGImages" / f"{name}.jpg"
    path.write_bytes(path.read_bytes()[:200])
    return path


def no_image(base: Path, name: str) -> Path:
    path = base / "JPEGImages" / f"{name}.jpg"
    path.write_bytes(b"this is no picture")
    return path


BREAKERS = [remove_mask, wrong_size, colour_mask, cut_short, no_image]


@pytest.mark.parametrize("breaker", BREAKERS)
def test_a_broken_file_is_named_or_skipped(voc: Path, breaker: Callable[[Path, str], Path]) -> None:
    part = voc / "splits" / "val"
    part.mkdir(parents=True)
    names = [f"2007_{c:02d}{k:04d}__{c + 1:02d}" for c in range(5) for k in range(3)]
    (part / "fold0.txt").write_text("\n".join(names) + "\n")
    path = breaker(voc / "VOC2012", "2007_020001")
    episodes = pascal(voc, fold=0, size=(16, 16), splits=voc / "splits")
    with pytest.raises(InputError, match="2007_020001") as caught:
        list(episodes.take(15))
    assert str(path) in caught.value.summary

    skipped = Skipped()
    whole = list(episodes.take(15, skipped=skipped))
    assert len(skipped) == 1
    assert str(path) in skipped.files[0]
    used = {name for e in whole for name in (e.query_name, *e.support_names)}
    assert "2007_020001" not in used
    # Nothing else is lost: exactly the episodes that do not need the file are there.
    drawn = [episodes.make.planned[i] for i in range(15)]  # type: ignore[attr-defined]
    assert [e.query_name for e in whole] == [
        d.query for d in drawn if "2007_020001" not in (d.query, *d.supports)
    ]


def test_deriving_lists_names_and_skips_too(voc: Path) -> None:
    path = colour_mask(voc / "VOC2012", "2007_020001")
    with pytest.raises(InputError, match="2007_020001"):
        pascal(voc, fold=0)
    skipped = Skipped()
    pascal(voc, fold=0, skipped=skipped)
    assert skipped.files == [f"the mask {path} does not hold class numbers"]


def test_a_class_with_too_few_images(voc: Path, fss_root: Path) -> None:
    with pytest.raises(InputError, match=r"'aeroplane'.*too few images for 3 shots"):
        pascal(voc, fold=0, shots=3)
    for k in range(3, 11):
        (fss_root / "FSS-1000" / "abacus" / f"{k}.jpg").unlink()
    with pytest.raises(InputError, match=r"'abacus'.*FSS-1000"):
        fss(fss_root, splits=fss_root / "splits", shots=2)
    skipped = Skipped()
    kept = fss(fss_root, splits=fss_root / "splits", shots=2, skipped=skipped)
    assert len(kept) == 10 and len(skipped) == 1
    with pytest.raises(InputError, match="needs a support"):
        pascal(voc, fold=0, shots=0)


def test_a_split_line_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "fold0.txt"
    for line in ("2007_000001__00", "2007_000001__21", "2007_000001", "__03", "a__x"):
        path.write_text(f"2007_000033__01\n{line}\n")
        with pytest.raises(InputError, match="line 2 of the split file"):
            read_pascal_split(path)
    path.write_text("2007_000033__01\r\na__b__20\r\n")
    assert read_pascal_split(path) == [("2007_000033", 0), ("a__b", 19)]


@pytest.mark.parametrize("name", ["../../etc/x", "/etc/x", "a\\b", ".."])
def test_a_split_file_names_nothing_outside_the_dataset(
    tmp_path: Path, fss_root: Path, name: str
) -> None:
    path = tmp_path / "fold0.txt"
    path.write_text(f"2007_000033__01\n{name}__02\n")
    with pytest.raises(InputError, match="not in the dataset"):
        read_pascal_split(path)
    (tmp_path / "trn.txt").write_text(f"abacus\n{name}\n")
    with pytest.raises(InputError, match="not in the dataset"):
        fss(fss_root, splits=tmp_path / "trn.txt", split="train")


class Touch:
    """Unpickling this would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self.target, "was here"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_coco_pickles_run_nothing(tmp_path: Path, protocol: int) -> None:
    path, target = tmp_path / "fold0.pkl", tmp_path / "target"
    good = {0: ["val2014/a.jpg", "val2014/é.jpg"], 1: [], 79: ["val2014/a.jpg"] * 300}
    path.write_bytes(pickle.dumps(good, protocol=protocol))
    assert read_coco_split(path) == good
    path.write_bytes(pickle.dumps({0: [Touch(target)]}, protocol=protocol))
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_coco_split(path)
    assert "refused" in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [
        ["val2014/a.jpg"],
        {"0": ["val2014/a.jpg"]},
        {0: "val2014/a.jpg"},
        {0: [1]},
        {0: ["../a.jpg"]},
        {0: ["/etc/a.jpg"]},
        {0: ["val2014/a.png"]},
        {0: ("val2014/a.jpg",)},
        {True: ["val2014/a.jpg"]},
        {0: [1.5]},
        {0: {1, 2}},
        None,
    ],
)
def test_coco_pickles_of_another_shape_are_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "fold0.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=r"fold0\.pkl"):
        read_coco_split(path)


def test_a_damaged_pickle_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "fold0.pkl"
    whole = pickle.dumps({0: ["val2014/a.jpg"]})
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            read_coco_split(path)
