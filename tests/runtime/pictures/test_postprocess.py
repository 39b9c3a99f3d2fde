"""Upsampling and voting, against PyTorch, the authors' rule written out, and reference outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.places import DATA
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from hsnet_trt.runtime.pictures.postprocess import sample_positions, segment_logits, sigmoid
from hsnet_trt.runtime.pictures.preprocess import Placement, place


def whole(size: tuple[int, int], network: tuple[int, int] = (64, 96)) -> Placement:
    return place(size, network, "stretch")


def matrix(decoder: int, p: Placement, axis: int) -> np.ndarray:
    """The resampling of one axis, [query size, decoder]."""
    low, weight = sample_positions(decoder, p, axis)
    rows = np.zeros((len(low), decoder))
    rows[np.arange(len(low)), low] = 1 - weight
    rows[np.arange(len(low)), low + 1] += weight
    return rows


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(2, 30),
    st.integers(2, 30),
    st.integers(0, 999),
)
def test_upsampling_is_torchs(height: int, width: int, h: int, w: int, seed: int) -> None:
    plane = np.random.default_rng(seed).normal(size=(h, w))
    p = whole((height, width))
    found = matrix(h, p, 0) @ plane @ matrix(w, p, 1).T
    expected = functional.interpolate(
        torch.from_numpy(plane)[None, None], (height, width), mode="bilinear", align_corners=True
    )[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 20))
def test_letterbox_upsampling_is_to_the_input_then_the_crop_resized(
    h: int, w: int, decoder: int
) -> None:
    """A linear ramp over the network's input comes out as the same ramp over the photograph."""
    network = (64, 96)
    p = place((h, w), network, "letterbox")
    for axis, start in ((0, p.top), (1, p.left)):
        ramp = np.linspace(0, network[axis] - 1, decoder)
        expected = np.linspace(start, start + p.content[axis] - 1, p.source[axis])
        np.testing.assert_allclose(matrix(decoder, p, axis) @ ramp, expected, atol=1e-3)


def authors_vote(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Argmax of each shot at the query's size, summed, over max(1, largest), at least one half."""
    planes = torch.from_numpy(logits).double()
    up = functional.interpolate(planes, size, mode="bilinear", align_corners=True)
    votes = up.argmax(1).sum(0).numpy()
    return votes / max(1, votes.max()) >= 0.5


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 9999),
)
def test_votes_scores_and_labels(shots: list[int], size: tuple[int, int], seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 2, (sum(shots), 2, 6, 7)).astype(np.float32)
    masks, scores, labels = segment_logits(logits, shots, whole(size))
    up = functional.interpolate(
        torch.from_numpy(logits).double(), size, mode="bilinear", align_corners=True
    )
    softmax = up.softmax(1)[:, 1].numpy()
    near_tie = (np.abs((up[:, 1] - up[:, 0]).numpy()) < 1e-4).any(0)
    first = 0
    for mask, score, count in zip(masks, scores, shots, strict=True):
        part = slice(first, first + count)
        np.testing.assert_allclose(score, softmax[part].mean(0), atol=1e-5)
        assert score.dtype == np.float32
        assert (mask == authors_vote(logits[part], size))[~near_tie].all()
        first += count
    assert labels.dtype == np.uint8
    winner = np.where(np.stack(masks), np.stack(scores), -1)
    np.testing.assert_array_equal(labels, np.where(winner.max(0) < 0, 0, winner.argmax(0) + 1))


def test_two_of_five_votes_are_enough_when_no_pixel_has_more_than_four() -> None:
    """The rule divides by the largest vote of this query, not by the number of shots."""
    logits = np.zeros((5, 2, 2, 3), np.float32)
    for shot, row in enumerate([[1, 1, 1], [1, 1, -1], [1, -1, -1], [1, -1, -1], [-1, -1, -1]]):
        logits[shot, 1] = row
    (mask,), _, _ = segment_logits(logits, [5], whole((1, 3)))
    assert mask.tolist() == [[True, True, False]]


def test_nothing_found_is_an_empty_mask() -> None:
    logits = np.zeros((3, 2, 4, 4), np.float32)  # equal logits are background
    (mask,), (score,), labels = segment_logits(logits, [3], whole((9, 9)))
    assert not mask.any()
    assert not labels.any()
    np.testing.assert_allclose(score, 0.5)


def test_rows_in_chunks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(3).normal(size=(4, 2, 8, 9)).astype(np.float32)
    at_once = segment_logits(logits, [3, 1], whole((50, 40)))
    monkeypatch.setattr("hsnet_trt.runtime.pictures.postprocess._CHUNK_ELEMENTS", 130)
    in_chunks = segment_logits(logits, [3, 1], whole((50, 40)))
    for one, other in zip(at_once[0] + at_once[1], in_chunks[0] + in_chunks[1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_array_equal(at_once[2], in_chunks[2])


def test_sigmoid_does_not_overflow() -> None:
    values = np.array([-1e30, -200, -1, 0, 1, 200, 1e30], np.float32)
    with np.errstate(all="raise", under="ignore"):
        found = sigmoid(values.copy())
    np.testing.assert_allclose(found, torch.from_numpy(values).double().sigmoid(), atol=1e-7)


@pytest.mark.parametrize("name", ["resnet50_128", "resnet101_128", "vgg16_128", "resnet50_288x416"])
def test_reference_logits_give_the_reference_argmax(name: str) -> None:
    """At the logits' own size upsampling is the identity: the authors' argmax remains."""
    logits = np.load(DATA / f"hsnet_{name}.npz")["logits_1shot"]
    size = (logits.shape[2], logits.shape[3])
    (mask,), (score,), _ = segment_logits(logits, [1], whole(size, size))
    np.testing.assert_array_equal(mask, logits.argmax(1)[0] == 1)
    expected = torch.from_numpy(logits).double().softmax(1)[0, 1]
    np.testing.assert_allclose(score, expected, atol=1e-6)
