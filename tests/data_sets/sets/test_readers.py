"""The readers on miniature datasets, their sampling against the authors' loop in plain numpy."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hsnet_trt.data.drawn.photo_cut import find_photos
from hsnet_trt.data.episodes.episode import Skipped
from hsnet_trt.data.sets import coco as coco_module
from hsnet_trt.data.sets import pascal as pascal_module
from hsnet_trt.data.sets.coco import coco
from hsnet_trt.data.sets.folder import folder
from hsnet_trt.data.sets.fss import fss
from hsnet_trt.data.sets.pascal import pascal
from hsnet_trt.errors import HSNetWarning, InputError


def test_pascal_folds_are_five_consecutive_classes() -> None:
    for fold in range(4):
        assert pascal_module.fold_classes(fold, "test") == list(range(5 * fold, 5 * fold + 5))
        both = pascal_module.fold_classes(fold, "test") + pascal_module.fold_classes(fold, "train")
        assert sorted(both) == list(range(20))


def test_coco_folds_take_every_fourth_class() -> None:
    assert coco_module.fold_classes(2, "val") == [2 + 4 * v for v in range(20)]
    assert not set(coco_module.fold_classes(2, "val")) & set(coco_module.fold_classes(2, "train"))
    assert len(coco_module.CLASSES) == 80
    assert (coco_module.CLASSES[0], coco_module.CLASSES[79]) == ("person", "toothbrush")


def test_pascal_draws_as_numpy_does_after_seed_0(voc: Path) -> None:
    lines = ["2007_060001__07", "2007_050000__06", "2007_060000__07", "2007_050002__06"]
    lines += ["2007_050001__06", "2007_060002__07", "2007_070000__08", "2007_070001__08"]
    lines += ["2007_070002__08"]
    part = voc / "splits" / "pascal" / "val"
    part.mkdir(parents=True)
    (part / "fold1.txt").write_text("\n".join(lines) + "\n")
    # The classes of the fold without a line have too few images: left out here, and said so.
    skipped = Skipped()
    episodes = pascal(voc, fold=1, shots=2, size=(40, 40), splits=voc / "splits", skipped=skipped)
    assert len(episodes) == 1000
    assert len(skipped) == 2
    assert list(episodes.classes) == [5, 6, 7, 8, 9]

    before = np.random.get_state()[1].copy()
    pairs = [(line[:-4], int(line[-2:]) - 1) for line in lines]
    reference = np.random.RandomState(0)
    for index in range(25):
        query, class_id = pairs[index % len(pairs)]
        own = [name for name, other in pairs if other == class_id]
        supports: list[str] = []
        while len(supports) < 2:
            name = reference.choice(own, 1, replace=False)[0]
            if name != query:
                supports.append(str(name))
        episode = episodes[index]
        assert (episode.query_name, episode.class_id) == (query, class_id)
        assert episode.support_names == tuple(supports)
    assert (np.random.get_state()[1] == before).all(), "the caller's random state was touched"


def test_randomstate_equals_the_seeded_global_stream() -> None:
    saved = np.random.get_state()
    try:
        np.random.seed(0)
        drawn = [np.random.choice(list("abcdefg"), 1, replace=False)[0] for _ in range(50)]
    finally:
        np.random.set_state(saved)
    own = np.random.RandomState(0)
    assert drawn == [list("abcdefg")[int(own.choice(7, 1, replace=False)[0])] for _ in range(50)]


def test_pascal_episode_is_what_is_on_disk(voc: Path) -> None:
    episode = pascal(voc, fold=0, shots=2, size=(50, 40))[1]
    assert episode.query.shape == (50, 40, 3) and episode.query.dtype == np.uint8
    assert episode.supports.shape == (2, 50, 40, 3)
    assert episode.support_masks.shape == (2, 50, 40)
    assert episode.original_size == (60, 80)
    image = Image.open(voc / "VOC2012/JPEGImages" / f"{episode.query_name}.jpg")
    assert (episode.query == np.asarray(image.resize((40, 50), Image.Resampling.BILINEAR))).all()
    values = np.asarray(
        Image.open(voc / "VOC2012/SegmentationClassAug" / f"{episode.query_name}.png")
    )
    for row in (0, 4, 5, 20, 49):
        for column in (0, 2, 3, 21, 39):
            value = values[row * 60 // 50, column * 80 // 40]
            assert episode.query_mask[row, column] == (value == episode.class_id + 1)
            assert episode.ignore is not None
            assert episode.ignore[row, column] == (value == 255)


def test_original_size_keeps_the_query_mask(voc: Path) -> None:
    episode = pascal(voc, fold=0, size=(32, 32), original_size=True)[0]
    assert episode.query.shape == (32, 32, 3)
    assert episode.query_mask.shape == (60, 80)
    assert episode.ignore is not None and episode.ignore.shape == (60, 80)
    assert episode.support_masks.shape == (1, 32, 32)


def test_pascal_derives_its_lists_and_keeps_them(voc: Path, cache: Path) -> None:
    test = pascal(voc, fold=2, size=(16, 16))
    train = pascal(voc, fold=2, split="train", size=(16, 16))
    judged = {test[i].query_name for i in range(15)}
    learned = {train[i].query_name for i in range(45)}
    assert len(judged) == 15 and len(learned) == 45 and not judged & learned
    assert {test[i].class_id for i in range(15)} == set(range(10, 15))
    assert train.count is None
    stored = sorted(cache.rglob("*.json"))
    assert len(stored) == 2
    stored[0].write_text("not json")
    stored[1].write_text("[]")
    assert pascal(voc, fold=2, size=(16, 16))[0].query_name == test[0].query_name


def test_pascal_without_a_val_list_warns(voc: Path) -> None:
    (voc / "VOC2012/ImageSets/Segmentation/val.txt").unlink()
    with pytest.warns(HSNetWarning, match="share images"):
        pascal(voc, fold=0)


def test_judging_without_the_published_lists_warns(voc: Path, coco_root: Path) -> None:
    names = [path.stem for path in (voc / "VOC2012/JPEGImages").glob("2007_0[0-4]*")]
    lists = "".join(f"{name}__{int(name[5:7]) + 1:02d}\n" for name in names)
    (voc / "val/fold0.txt").parent.mkdir()
    (voc / "val/fold0.txt").write_text(lists)
    for read, root, fold in ((pascal, voc, 0), (coco, coco_root, 3)):
        with pytest.warns(HSNetWarning, match="not comparable"):
            read(root, fold=fold)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read(root, fold=fold, split="train")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pascal(voc, fold=0, splits=voc)


def test_training_stream_is_by_number_and_seed(voc: Path) -> None:
    first = pascal(voc, fold=0, split="train", shots=2, size=(16, 16))
    again = pascal(voc, fold=0, split="train", shots=2, size=(16, 16))
    other = pascal(voc, fold=0, split="train", shots=2, size=(16, 16), seed=1)

    def names(episodes, numbers):  # type: ignore[no-untyped-def]
        return [(episodes[i].query_name, episodes[i].support_names) for i in numbers]

    assert names(first, range(50)) == names(again, reversed(range(50)))[::-1]
    assert names(first, range(50)) != names(other, range(50))


def test_coco_draws_class_query_supports(coco_root: Path) -> None:
    lists = {
        c: [f"val2014/COCO_val2014_{c:04d}{k:08d}.jpg" for k in (2, 0, 1)] if c % 4 == 3 else []
        for c in range(80)
    }
    path = coco_root / "fold3.pkl"
    path.write_bytes(pickle.dumps(lists, protocol=3))
    episodes = coco(coco_root, fold=3, shots=2, size=(24, 24), splits=path)
    reference = np.random.RandomState(0)
    own = [3 + 4 * v for v in range(20)]
    for index in range(12):
        class_id = int(reference.choice(own, 1, replace=False)[0])
        query = str(reference.choice(lists[class_id], 1, replace=False)[0])
        supports: list[str] = []
        while len(supports) < 2:
            name = str(reference.choice(lists[class_id], 1, replace=False)[0])
            if name != query:
                supports.append(name)
        episode = episodes[index]
        assert (episode.class_id, episode.query_name) == (class_id, query)
        assert episode.support_names == tuple(supports)
        assert episode.ignore is None
        assert episode.query_mask.any() and not episode.query_mask.all()
    derived = coco(coco_root, fold=3, size=(24, 24))
    assert len(derived) == 1000
    assert derived[0].query_name.startswith("val2014/")
    train = coco(coco_root, fold=3, split="train", size=(24, 24))
    assert train[0].query_name.startswith("train2014/")
    assert all(train[i].class_id % 4 != 3 for i in range(20))


def test_fss_takes_every_picture_in_order(fss_root: Path) -> None:
    episodes = fss(fss_root, splits=fss_root / "splits", size=(48, 48))
    assert len(episodes) == 20
    assert episodes.classes == {760: "abacus", 761: "zucchini"}
    reference = np.random.RandomState(0)
    order = ["1", "10", *"23456789"]
    for index in range(20):
        name, number = ("abacus", "zucchini")[index // 10], order[index % 10]
        query = f"{name}/{number}.jpg"
        support = query
        while support == query:
            support = f"{name}/{reference.choice(range(1, 11), 1, replace=False)[0]}.jpg"
        episode = episodes[index]
        assert episode.query_name == query and episode.support_names == (support,)
        assert episode.query_mask.sum() == 22 * (12 + int(number))
    assert fss(fss_root, splits=fss_root / "splits", split="val").classes == {520: "ab_wheel"}
    train = fss(fss_root, splits=fss_root / "splits", split="train")
    assert train.classes == {0: "bus"} and train.count is None


def own_folder(root: Path) -> Path:
    for name in ("cup", "sign"):
        for k in range(3):
            (root / name).mkdir(parents=True, exist_ok=True)
            picture = np.random.default_rng(k).integers(0, 255, (20, 30, 3), np.uint8)
            Image.fromarray(picture).save(root / name / f"{k}.jpg")
            mask = np.zeros((20, 30), np.uint8)
            mask[5:15, 5:15] = 1 if name == "cup" else 255
            Image.fromarray(mask).save(root / name / f"{k}.png")
    return root


def test_another_layout_of_an_own_folder_is_told_which_is_read(tmp_path: Path) -> None:
    """Images and masks in two folders, as many tools leave them."""
    for folder_name, ending in (("images", "jpg"), ("masks", "png")):
        (tmp_path / folder_name).mkdir()
        for k in range(3):
            Image.new("L", (30, 20)).save(tmp_path / folder_name / f"{k}.{ending}")
    with pytest.raises(InputError, match=r"'masks'.*too few images") as caught:
        folder(tmp_path)
    assert "mask CLASS/NAME.png" in str(caught.value.expected)


def test_hidden_files_and_folders_are_no_pictures(tmp_path: Path) -> None:
    """As Jupyter and macOS leave them."""
    root = own_folder(tmp_path / "mine")
    before = folder(root, size=(20, 30))
    (root / ".ipynb_checkpoints").mkdir()
    (root / before.classes[0] / "._1.jpg").write_bytes(b"no picture")
    after = folder(root, size=(20, 30))
    assert (after.classes, after.count) == (before.classes, before.count)
    assert find_photos(root) == tuple(p for p in find_photos(root) if p[0].name[0] != ".")


def test_hidden_files_are_no_masks(voc: Path, coco_root: Path) -> None:
    """As macOS leaves them, where the lists are made from the masks."""
    (voc / "VOC2012" / "SegmentationClassAug" / "._1.png").write_bytes(b"no mask")
    (coco_root / "COCO2014" / "annotations" / "val2014" / "._1.png").write_bytes(b"no mask")
    pascal(voc, fold=0, split="train", size=(24, 24))
    coco(coco_root, fold=3, size=(24, 24))


def test_folder_reads_0_1_and_0_255_and_palette_masks(tmp_path: Path) -> None:
    root = own_folder(tmp_path / "mine")
    index = np.zeros((20, 30), np.uint8)
    index[5:15, 5:15], index[0, 0] = 7, 255
    picture = Image.fromarray(index)
    picture.putpalette([0, 0, 0] + [9, 9, 9] * 254 + [255, 255, 255])
    picture.save(root / "cup" / "0.png")
    episodes = folder(root, size=(20, 30), shots=2)
    assert len(episodes) == 6 and episodes.classes == {0: "cup", 1: "sign"}
    for episode in episodes:
        assert episode.query_mask.sum() == 100
    ignore = episodes[0].ignore
    assert ignore is not None and ignore.sum() == 1


@pytest.mark.parametrize("bad", [-1, 4])
def test_no_such_fold(voc: Path, bad: int) -> None:
    with pytest.raises(InputError, match="fold"):
        pascal(voc, fold=bad)
    with pytest.raises(InputError, match="fold"):
        coco(voc, fold=bad)


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="VOC2012"):
        pascal(tmp_path, fold=0)
    with pytest.raises(InputError, match="COCO2014"):
        coco(tmp_path, fold=0)
    with pytest.raises(InputError, match="FSS-1000"):
        fss(tmp_path, splits=tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no classes") as raised:
        folder(tmp_path)  # as one that holds photographs and no folders of them
    assert "NAME.jpg with the mask NAME.png" in str(raised.value.expected)
