"""Leaving out what was found of classes that are not there."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hsnet_trt import Segmentation

SIZE = (4, 9)


def result(*, scores: bool = True, **presence: float) -> Segmentation:
    """Three classes side by side that overlap; the label is that of the highest score."""
    masks = {name: np.zeros(SIZE, bool) for name in ("mug", "cup", "jug")}
    masks["mug"][:, :6], masks["cup"][:, 2:8], masks["jug"][:, 4:] = True, True, True
    maps = {
        n: np.full(SIZE, s, np.float32) for n, s in {"mug": 0.9, "cup": 0.6, "jug": 0.8}.items()
    }
    labels = np.array([1, 1, 1, 1, 1, 1, 3, 3, 3], np.uint8)[None].repeat(4, axis=0)
    return Segmentation(masks, maps if scores else {}, labels, tuple(masks), {}, presence, 0.5)


def test_nothing_changes_where_all_are_there() -> None:
    found = result(mug=0.5, cup=0.9, jug=0.7)
    assert found.present == {"mug": True, "cup": True, "jug": True}
    assert found.only_present() is found
    assert result().present == {"mug": True, "cup": True, "jug": True}  # nothing says they are not


@pytest.mark.parametrize(
    ("scores", "labels"),
    [(True, [0, 0, 2, 2, 3, 3, 3, 3, 3]), (False, [0, 0, 2, 2, 2, 2, 3, 3, 3])],
)
def test_others_take_its_place(scores: bool, labels: list[int]) -> None:
    """The next best by score; without scores the first."""
    found = result(scores=scores, mug=0.49, cup=0.9, jug=0.7)
    kept = found.only_present()
    assert found.present["mug"] is False and found.masks["mug"].any()
    assert not kept.masks["mug"].any() and kept.masks["cup"].any()
    assert kept.labels.tolist() == [labels] * 4 and kept.labels.dtype == np.uint8
    assert kept.presence == found.presence and kept.scores is found.scores


def test_labels_alone_go_to_none() -> None:
    """As a server gives them that was asked for nothing large."""
    found = dataclasses.replace(result(mug=0.1, cup=0.9, jug=0.9), masks={}, scores={})
    assert found.only_present().labels.tolist() == [[0] * 6 + [3] * 3] * 4


def test_nothing_is_left_where_none_is_there() -> None:
    kept = dataclasses.replace(result(mug=0.1, cup=0.1, jug=0.1)).only_present()
    assert not kept.labels.any() and not any(mask.any() for mask in kept.masks.values())
