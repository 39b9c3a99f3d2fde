"""The counting against a slow count pixel by pixel, and the figures against the formula by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsnet_trt.data.episodes.episode import Episode
from hsnet_trt.data.episodes.metrics import Score, boundary, overlap, share_interval
from hsnet_trt.errors import InputError


def episode(truth: np.ndarray, class_id: int, ignore: np.ndarray | None = None) -> Episode:
    empty = np.zeros((*truth.shape, 3), np.uint8)
    return Episode(
        empty, truth, empty[None], truth[None], class_id, "x", ignore, "q", ("s",), truth.shape
    )


def slow(answer: np.ndarray, truth: np.ndarray, ignore: np.ndarray | None) -> tuple[list, list]:
    inter, union = [0, 0], [0, 0]
    for row in range(answer.shape[0]):
        for column in range(answer.shape[1]):
            if ignore is not None and ignore[row, column]:
                continue
            for value in (0, 1):
                is_answer = int(answer[row, column]) == value
                is_truth = int(truth[row, column]) == value
                inter[value] += is_answer and is_truth
                union[value] += is_answer or is_truth
    return inter, union


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.floats(0, 1)
)
def test_overlap_equals_a_slow_count(
    seed: int, height: int, width: int, with_ignore: bool, share: float
) -> None:
    rng = np.random.default_rng(seed)
    answer, truth = rng.random((2, height, width)) < share
    ignore = rng.random((height, width)) < 0.3 if with_ignore else None
    inter, union = overlap(answer, truth, ignore)
    assert (list(inter), list(union)) == slow(answer, truth, ignore)


def test_figures_equal_the_formula() -> None:
    rng = np.random.default_rng(3)
    score = Score({4: "a", 7: "b", 9: "c"})
    inter = {c: np.zeros(2) for c in score.classes}
    union = {c: np.zeros(2) for c in score.classes}
    for k in range(30):
        class_id = (4, 7, 9)[k % 3]
        truth, answer = rng.random((2, 12, 15)) < rng.random()
        ignore = rng.random((12, 15)) < 0.1
        own = score.add(episode(truth, class_id, ignore), answer)
        i, u = slow(answer, truth, ignore)
        assert own == pytest.approx(100 * i[1] / max(u[1], 1))
        inter[class_id] += i
        union[class_id] += u
    per_class = [100 * inter[c][1] / union[c][1] for c in score.classes]
    assert score.miou() == pytest.approx(np.mean(per_class))
    assert list(score.per_class().values()) == pytest.approx(per_class)
    total = sum(inter.values()) / sum(union.values())
    assert score.fb_iou() == pytest.approx(100 * total.mean())
    assert len(score) == 30


def test_a_class_that_is_not_shown_is_left_out_and_a_missed_one_is_not() -> None:
    score = Score({0: "shown", 1: "missed", 2: "never shown"})
    truth = np.ones((4, 4), np.bool_)
    score.add(episode(truth, 0), truth)
    score.add(episode(truth, 1), ~truth)
    assert score.miou() == 50
    assert score.per_class() == {"shown": 100, "missed": 0}


def test_nothing_to_find_and_nothing_found_counts_as_the_authors_count() -> None:
    score = Score({0: "a"})
    nothing = np.zeros((4, 4), np.bool_)
    score.add(episode(nothing, 0), nothing)
    assert score.miou() == 0  # 0 / max(0, 1)


def test_interval_holds_the_value_and_narrows_with_more_episodes() -> None:
    rng = np.random.default_rng(0)

    def width(n: int) -> float:
        score = Score({0: "a", 1: "b"})
        for k in range(n):
            truth = rng.random((10, 10)) < 0.4
            answer = truth ^ (rng.random((10, 10)) < rng.uniform(0, 0.4))
            score.add(episode(truth, k % 2), answer)
        for interval, value in (
            (score.miou_interval(), score.miou()),
            (score.fb_iou_interval(), score.fb_iou()),
        ):
            assert interval.value == value
            assert interval.low <= value <= interval.high
        assert score.miou_interval() == score.miou_interval()
        wide = score.miou_interval(confidence=0.99)
        assert wide.low <= score.miou_interval().low
        return score.miou_interval().high - score.miou_interval().low

    assert width(400) < 0.5 * width(25)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Many small runs of one known process: the truth is its value over very many episodes.
    rng = np.random.default_rng(1)

    def run(n: int) -> Score:
        score = Score({0: "a"})
        for _ in range(n):
            truth = np.zeros(100, np.bool_)
            truth[:40] = True
            answer = truth ^ (rng.random(100) < rng.uniform(0, 0.5))
            score.add(episode(truth[None], 0), answer[None])
        return score

    truth = run(4000).miou()
    intervals = [run(40).miou_interval(rounds=200) for _ in range(60)]
    covered = sum(i.low <= truth <= i.high for i in intervals)
    assert covered >= 50  # 95 % of 60 is 57


def test_what_does_not_fit_is_refused() -> None:
    score = Score({0: "a"})
    truth = np.zeros((4, 4), np.bool_)
    with pytest.raises(InputError, match="does not fit"):
        score.add(episode(truth, 0), np.zeros((4, 5), np.bool_))
    with pytest.raises(InputError, match="not judged"):
        score.add(episode(truth, 1), truth)
    with pytest.raises(InputError, match="nothing to judge"):
        score.miou()


@pytest.mark.parametrize(("times", "of"), [(0, 17), (17, 17), (1, 40), (20, 75)])
def test_the_interval_of_a_share_equals_scipys(times: int, of: int) -> None:
    from scipy.stats import binomtest

    found = share_interval(times, of)
    expected = binomtest(times, of).proportion_ci(0.95, method="wilson")
    assert found.value == pytest.approx(100 * times / of)
    assert found.low == pytest.approx(100 * expected.low, abs=1e-3)
    assert found.high == pytest.approx(100 * expected.high, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 70), st.integers(3, 70))
def test_the_boundary_is_what_an_erosion_takes_away(seed: int, height: int, width: int) -> None:
    """OpenCV's erosion by one pixel, as often as 2 % of the diagonal says, the outside empty."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((4, 4)) < 0.6
    mask = coarse[np.arange(height) * 4 // height][:, np.arange(width) * 4 // width]
    times = max(1, round(0.02 * float(np.hypot(height, width))))
    left = cv2.erode(
        mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=times,
        borderType=cv2.BORDER_CONSTANT, borderValue=0,
    )  # fmt: skip
    np.testing.assert_array_equal(boundary(mask), mask & (left == 0))


def test_a_boundary_tells_what_an_iou_does_not() -> None:
    truth = np.zeros((200, 200), np.bool_)
    truth[50:150, 50:150] = True
    rough = np.zeros_like(truth)
    rough[53:153, 53:153] = True
    whole, border = Score({0: "a"}), Score({0: "a"})
    whole.add(episode(truth, 0), rough)
    border.add(episode(boundary(truth), 0), boundary(rough))
    assert whole.miou() > 88 and border.miou() < 40
    assert border.add(episode(boundary(truth), 0), boundary(truth)) == 100
