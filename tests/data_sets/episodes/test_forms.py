"""Mosaics and absent classes, made of miniature sets of coloured blobs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers.data_sets.tiny_sets import COLOURS, write_folder

from hsnet_trt.data.episodes.episode import Episodes, Mask
from hsnet_trt.data.episodes.forms import in_form
from hsnet_trt.data.sets.folder import folder
from hsnet_trt.errors import InputError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("set"), classes=3, size=(60, 90))


@pytest.fixture(scope="module")
def clean(root: Path) -> Episodes:
    return folder(root, shots=2, size=(65, 81))


def coloured(picture: np.ndarray, class_id: int) -> Mask:
    """Where a picture has the colour of a class."""
    far = np.abs(picture.astype(int) - COLOURS[class_id] + 15).max(axis=2)
    return np.asarray(far < 45)


def iou(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_half_of_each_picture_shows_another_class(clean: Episodes) -> None:
    mosaics = in_form(clean, "mosaic", seed=3)
    assert len(mosaics) == len(clean) == 12
    firsts = []
    for index in range(12):
        episode, plain = mosaics[index], clean[index]
        pictures = [
            (episode.query, episode.query_mask),
            *zip(episode.supports, episode.support_masks, strict=True),
        ]
        for picture, mask in pictures:
            assert picture.shape == (65, 81, 3) and mask.shape == (65, 81)
            # Where the class' colour is, its mask is; another one's is in the other half.
            assert iou(coloured(picture, episode.class_id), mask) > 0.8
            others = [coloured(picture, c) for c in range(3) if c != episode.class_id]
            assert max(other.sum() for other in others) > 60
            halves = mask[:32].any(), mask[32:].any()  # wider than high: one above the other
            assert sum(halves) == 1
            firsts.append(halves[0])
        assert episode.query_mask.sum() == pytest.approx(plain.query_mask.sum() / 2, rel=0.1)
        assert episode.class_id == plain.class_id
    assert 5 < sum(firsts) < 31, "always the same half"


@pytest.mark.parametrize("size", [(90, 60), (60, 60)])
def test_pictures_that_are_not_wide_are_put_side_by_side(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    """Of 65 columns the left half has 32 and the right one 33."""
    mosaics = in_form(folder(write_folder(tmp_path, size=size), size=(81, 65)), "mosaic")
    lefts = []
    for index in range(len(mosaics)):
        episode = mosaics[index]
        assert episode.query.shape == (81, 65, 3) and episode.query_mask.shape == (81, 65)
        halves = episode.query_mask[:, :32].any(), episode.query_mask[:, 32:].any()
        assert sum(halves) == 1
        lefts.append(halves[0])
        assert iou(coloured(episode.query, episode.class_id), episode.query_mask) > 0.8
    assert {True, False} == set(lefts)


def test_the_absent_class_leaves_nothing_to_find(clean: Episodes) -> None:
    absent = in_form(clean, "absent")
    for index in range(12):
        episode, plain = absent[index], clean[index]
        assert not episode.query_mask.any() and episode.query_mask.shape == (65, 81)
        assert not episode.query_name.startswith(f"class{episode.class_id}/")
        assert coloured(episode.query, episode.class_id).mean() < 0.02
        np.testing.assert_array_equal(episode.supports, plain.supports)
        np.testing.assert_array_equal(episode.support_masks, plain.support_masks)


def test_the_same_number_is_the_same_episode(clean: Episodes) -> None:
    for form in ("mosaic", "absent"):
        one, again, other = (in_form(clean, form, seed) for seed in (0, 0, 1))
        np.testing.assert_array_equal(one[7].query, again[7].query)
        names = [(e[i].query_name, e[i].query.tobytes()) for e in (one, other) for i in range(6)]
        assert names[:6] != names[6:]
    assert in_form(clean, "clean") is clean


def test_what_cannot_be_given_a_form(clean: Episodes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no form 'blurred'"):
        in_form(clean, "blurred")
    single = folder(write_folder(tmp_path / "one", classes=1), size=(64, 64))
    with pytest.raises(InputError, match="no other class"):
        in_form(single, "absent")


@pytest.mark.parametrize("form", ["mosaic", "absent"])
def test_classes_that_no_episode_shows_end_the_search(clean: Episodes, form: str) -> None:
    one = dataclasses.replace(clean, make=lambda index: clean[0])
    with pytest.raises(InputError, match="shows no other class"):
        in_form(one, form)[0]
