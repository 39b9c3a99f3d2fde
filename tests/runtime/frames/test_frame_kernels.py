"""The kernels that vote and draw, run on the CPU, against float64 and the CPU path."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from helpers.kernels.guarded_frames import Direct, GuardedFrames
from helpers.pictures.by_pillow import by_pillow, noise
from hypothesis import given, settings
from hypothesis import strategies as st

from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.frames.frame_kernels import PREPARE, VOTE, FrameKernels
from hsnet_trt.runtime.frames.frame_tables import make_tables
from hsnet_trt.runtime.matching.presence import best_matches
from hsnet_trt.runtime.pictures.postprocess import segment_logits
from hsnet_trt.runtime.pictures.preprocess import Placement, normalisation, place

SIDE = st.integers(1, 150)
POLICY = st.sampled_from(["stretch", "letterbox"])
DTYPE = st.sampled_from(["float16", "float32"])
LEVEL = 1 / 255 / 0.224  # one grey level, normalised, in the most sensitive channel


def upsampled(difference: np.ndarray, placement: Placement) -> np.ndarray:
    """Bilinear with align_corners in float64 [S,H,W]: each decoder value times a triangle."""
    sides = []
    for axis, start in ((0, placement.top), (1, placement.left)):
        last = start + placement.content[axis] - 1
        count, network = placement.source[axis], placement.network[axis]
        decoder = difference.shape[1 + axis]
        at = np.linspace(start, last, count) * ((decoder - 1) / max(1, network - 1))
        sides.append(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(decoder))))
    return np.einsum("yi,sij,xj->syx", sides[0], difference, sides[1], optimize=True)


@settings(max_examples=80, deadline=None)
@given(
    size=st.tuples(SIDE, SIDE),
    decoder=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    shots=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    chunk=st.integers(1, 7),
    policy=POLICY,
    dtype=DTYPE,
    seed=st.integers(0, 99),
)
def test_votes_scores_masks_and_labels(
    *,
    frames: GuardedFrames,
    size: tuple[int, int],
    decoder: tuple[int, int],
    shots: list[int],
    chunk: int,
    policy: str,
    dtype: str,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (sum(shots), 2, *decoder)).astype(dtype)
    placement = place(size, (64, 96), policy)
    found = frames.vote(logits, shots, placement, chunk=chunk)
    votes, scores, largest = found["votes"], found["scores"], found["largest"]

    wide = logits.astype(np.float64)
    values = upsampled(wide[:, 1] - wide[:, 0], placement)
    unsure = np.abs(values) < 1e-4
    for index, shot in enumerate(np.split(np.arange(len(logits)), np.cumsum(shots)[:-1])):
        over = np.abs(votes[index] - (values[shot] > 0).sum(0).astype(int))
        assert (over <= unsure[shot].sum(0)).all()
        mean = (1 / (1 + np.exp(-values[shot]))).mean(0)
        np.testing.assert_allclose(scores[index], mean, atol=2e-5)
    np.testing.assert_array_equal(largest, [*votes.max((1, 2)), 0])

    settled = frames.settle(votes, scores, largest)
    masks, labels = settled["masks"], settled["labels"]
    np.testing.assert_array_equal(masks, 2 * votes >= np.maximum(largest[:-1], 1)[:, None, None])
    np.testing.assert_array_equal(labels, labels_of(masks, scores))
    # The CPU path's masks are the same to the bit. Its exp may differ in the last bit, and then
    # another of two classes wins.
    cpu_masks, cpu_scores, cpu_labels = segment_logits(wide.astype(np.float32), shots, placement)
    np.testing.assert_array_equal(masks.astype(bool), np.stack(cpu_masks))
    np.testing.assert_allclose(scores, np.stack(cpu_scores), atol=1e-6)
    assert (labels != cpu_labels).mean() <= (0.001 if len(shots) > 1 else 0)
    alone = frames.vote(logits, shots, placement, chunk=chunk, scores=False)
    np.testing.assert_array_equal(alone["votes"], votes)


def labels_of(masks: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Of the classes whose mask holds, the one of the highest score, the first where they tie."""
    best = np.where(masks, scores, -1).argmax(0) + 1
    return np.where(masks.any(0), best, 0)


def test_values_next_to_zero_are_rounded_as_on_the_cpu(frames: GuardedFrames) -> None:
    """Tenths, a quarter of the way apart: a fused product and sum falls on the other side of 0."""
    tenths = np.random.default_rng(0).integers(-9, 10, (40, 2, 9, 9))
    logits, placement = (tenths / 10).astype(np.float32), place((33, 65), (64, 96), "stretch")
    votes = frames.vote(logits, [1] * 40, placement)["votes"]
    expected = np.stack(segment_logits(logits, [1] * 40, placement)[0])
    np.testing.assert_array_equal(votes.astype(bool), expected)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0, 0, 0), (2, 1, 5, 8), (1, 0, 3, 4)])
def test_what_is_not_finite_is_noted_wherever_it_lies(
    frames: GuardedFrames, at: tuple[int, ...], value: float, dtype: str
) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (3, 2, 6, 9)).astype(dtype)
    placement = place((30, 40), (64, 96), "stretch")
    assert frames.vote(logits, [2, 1], placement)["largest"][-1] == 0
    logits[at] = value
    assert frames.vote(logits, [2, 1], placement)["largest"][-1] == 1


def test_one_class_needs_no_scores(frames: GuardedFrames) -> None:
    votes = np.random.default_rng(0).integers(0, 6, (1, 9, 61)).astype(np.uint16)
    for most, least in ((5, 3), (4, 2), (1, 1), (0, 1)):
        largest = np.array([most, 0], np.int32)
        labels = frames.settle(votes, None, largest)["labels"]
        np.testing.assert_array_equal(labels, votes[0] >= least)


def test_as_many_classes_as_a_label_can_name_and_scores_that_tie(frames: GuardedFrames) -> None:
    rng = np.random.default_rng(0)
    votes = (rng.random((255, 7, 5)) < 0.02).astype(np.uint16)
    votes[254] = 1
    scores = rng.integers(0, 4, votes.shape).astype(np.float32) / 4
    settled = frames.settle(votes, scores, np.array([1] * 255 + [0], np.int32))
    np.testing.assert_array_equal(settled["masks"], votes)
    np.testing.assert_array_equal(settled["labels"], labels_of(votes, scores))
    assert settled["labels"].max() == 255


def test_more_votes_than_a_byte_counts(frames: GuardedFrames) -> None:
    logits = np.zeros((300, 2, 2, 2), np.float16)
    logits[:, 1] = 1
    found = frames.vote(logits, [300], place((3, 5), (64, 96), "stretch"), chunk=7)
    np.testing.assert_array_equal(found["votes"], np.full((1, 3, 5), 300))
    np.testing.assert_array_equal(found["largest"], [300, 0])


def sparse(size: int) -> np.ndarray:
    """Zeros that take memory only where something is written."""
    return np.frombuffer(mmap.mmap(-1, size), np.uint8)


def test_offsets_beyond_two_gigabytes(frames_image: bytes) -> None:
    """Rows that lie 16 MB apart, and chunks of logits 4 GB apart."""
    kernels = FrameKernels(Direct(), frames_image)  # type: ignore[arg-type]
    placement = place((160, 3), (20, 4), "stretch")
    tables = vars(make_tables(placement, (2, 2)))
    image, pitch = noise(3, 160, 3), 1 << 24
    memory = sparse(160 * pitch)
    memory.reshape(160, pitch)[:, :9] = image.reshape(160, 9)
    planes = np.empty((3, 20, 4), np.float32)
    scale, shift = normalisation(Preprocessing())
    names = ("columns", "column_taps", "rows", "row_taps")
    argument = PREPARE.pack(
        memory.ctypes.data,
        planes.ctypes.data,
        *(tables[n].ctypes.data for n in names),
        pitch,
        tables["column_taps"].shape[1],
        tables["row_taps"].shape[1],
        20,
        4,
        0,
        0,
        20,
        4,
        False,
        *scale,
        *shift,
    )
    kernels.prepare(planes.dtype, 4, 20, argument, None)
    np.testing.assert_array_equal(planes, by_pillow(image, placement))

    elements = (1 << 31) + 24
    logits = sparse(2 * (elements + 8)).view(np.float16)
    logits[4:8] = 1  # the first chunk votes, the second one does not
    logits[elements : elements + 4] = 1
    first, largest = np.array([0, 1, 2], np.int32), np.zeros(3, np.int32)
    votes = np.empty((2, 160, 3), np.uint16)
    names = ("low_x", "along_x", "low_y", "along_y")
    argument = VOTE.pack(
        logits.ctypes.data,
        *(tables[n].ctypes.data for n in names),
        first.ctypes.data,
        votes.ctypes.data,
        0,
        largest.ctypes.data,
        elements,
        1,
        2,
        2,
        2,
        160,
        3,
    )
    kernels.vote(logits.dtype, 3, 160, argument, None)
    assert (votes[0] == 1).all() and not votes[1].any()
    np.testing.assert_array_equal(largest, [1, 0, 0])


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 40),
    positions=st.integers(1, 70),
    count=st.integers(1, 20),
    dtype=DTYPE,
    seed=st.integers(0, 99),
)
def test_matches_are_those_of_the_cpu(
    frames: GuardedFrames, channels: int, positions: int, count: int, dtype: str, seed: int
) -> None:
    """One vector is all zero, and another one long: a contrast may be either."""
    rng = np.random.default_rng(seed)
    last = rng.standard_normal((channels, positions)).astype(dtype)
    last[:, positions // 2] = 0
    vectors = rng.standard_normal((count, channels)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[0] *= 2
    vectors[-1] = 0
    found = frames.likeness(last, vectors)
    np.testing.assert_allclose(found, best_matches(last, vectors), atol=2e-6)
    assert found[-1] == 0
