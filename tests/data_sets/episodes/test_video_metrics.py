"""The measures of a video against slow counts, and against cases made by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cv2")

from hsnet_trt.data.episodes.metrics import bootstrap
from hsnet_trt.data.episodes.video_metrics import (
    SOON,
    VideoScore,
    flicker,
    plain,
    summarise,
)
from hsnet_trt.errors import InputError

SIZE = (20, 30)
seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 12)


def noise(rng: np.random.Generator, shape: tuple[int, int], share: float = 0.5) -> np.ndarray:
    return rng.random(shape) < share


def box(top: int, left: int, height: int = 8, width: int = 8) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = True
    return mask


def still() -> np.ndarray:
    """Nothing moves: each pixel was where it is."""
    return np.stack(np.mgrid[: SIZE[0], : SIZE[1]], axis=-1).astype(np.int16)


NOTHING = np.zeros(SIZE, np.bool_)


def slow_flicker(
    answer: np.ndarray,
    before: np.ndarray,
    truth: np.ndarray,
    truth_before: np.ndarray,
    origin: np.ndarray,
) -> tuple[int, int]:
    changed = could = 0
    height, width = answer.shape
    for place in np.ndindex(height, width):
        row, column = origin[place]
        if row < 0 or truth[place] != truth_before[row, column]:
            continue
        could += 1
        rows = range(max(row - 1, 0), min(row + 2, height))
        columns = range(max(column - 1, 0), min(column + 2, width))
        changed += all(before[r, c] != answer[place] for r in rows for c in columns)
    return changed, could


@settings(max_examples=60, deadline=None)
@given(seeds, sides, sides, st.floats(0, 1))
def test_flicker_equals_a_slow_count(seed: int, height: int, width: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    answer, truth, truth_before = (noise(rng, (height, width)) for _ in range(3))
    before = noise(rng, (height, width), share)
    origin = np.stack([rng.integers(0, n, (height, width)) for n in (height, width)], axis=-1)
    origin[noise(rng, (height, width), 0.3)] = -1
    given_ = (answer, before, truth, truth_before, origin.astype(np.int16))
    assert flicker(*given_) == slow_flicker(*given_)


def test_what_moves_with_the_picture_does_not_flicker() -> None:
    """The whole picture moves by (2, 3); the answer, wrong as it is, moves along."""
    origin = still() - np.array([2, 3], np.int16)
    origin[(origin < 0).any(axis=-1)] = -1
    truth, truth_before = box(6, 9), box(4, 6)
    assert flicker(box(9, 18), box(7, 15), truth, truth_before, origin) == (0, 18 * 27)
    # Left where it was, all of it but a pixel of tolerance is news.
    changed, _ = flicker(box(7, 15), box(7, 15), truth, truth_before, origin)
    assert changed > 0


def test_what_blinks_in_a_still_picture_flickers() -> None:
    changed, could = flicker(box(5, 5), NOTHING, NOTHING, NOTHING, still())
    assert (changed, could) == (64, 600)
    assert flicker(box(5, 5), box(5, 6), NOTHING, NOTHING, still())[0] == 0  # one pixel
    # The object itself appears: no reason to blame an answer that follows it.
    assert flicker(box(5, 5), NOTHING, box(5, 5), NOTHING, still()) == (0, 600 - 64)


def judged(frames: list[tuple[np.ndarray, np.ndarray]]) -> VideoScore:
    """Judge (truth, answer) of a still picture."""
    score = VideoScore()
    for truth, answer in frames:
        score.add(answer, truth, still())
    score.finish()
    return score


def test_the_truth_is_a_perfect_answer() -> None:
    truths = [box(4, left) for left in range(-10, 20)]
    score = judged([(truth, truth) for truth in truths])
    figures = summarise([score, score])
    for perfect in (figures.j, figures.f):
        assert perfect is not None and perfect.value == perfect.low == perfect.high == 100
    assert figures.flicker is not None and figures.flicker.value == 0
    assert score.changed == score.shown == score.missed == 0
    assert score.could_change == sum(int((a == b).sum()) for a, b in pairwise(truths))
    assert score.gone == 3 and score.there == 27 and score.frames == 30
    assert figures.absence is None, "it had not been there yet"
    assert score.again.events == 1 and score.again.soon == 1 and score.again.frames == 0


def test_j_is_the_mean_over_frames_with_the_object() -> None:
    full, half = (box(4, 4), box(4, 4)), (box(4, 4), box(4, 4, width=4))
    figures = summarise([judged([full, half, (NOTHING, NOTHING)]), judged([half])])
    assert figures.j is not None and figures.j.value == pytest.approx((75 + 50) / 2)
    assert (figures.j.low, figures.j.high) == (pytest.approx(50), pytest.approx(75))


def test_an_absence_is_declared_wrongly_only_where_the_object_is_there() -> None:
    """Judged by what is said, not by the mask; a sliver is neither, and silence says nothing."""
    here, sliver, score = box(4, 4), box(0, 0, 1, 1), VideoScore()
    for truth, answer, present in [
        (here, here, True), (here, here, False), (here, NOTHING, True), (here, NOTHING, None),
        (sliver, NOTHING, False), (NOTHING, NOTHING, False), (here, NOTHING, False),
    ]:  # fmt: skip
        score.add(answer, truth, still(), present=present)
    score.finish()
    assert (score.there, score.judged_present, score.denied) == (5, 4, 2)
    denied = summarise([score]).denied
    assert denied is not None and denied.value == 50
    assert summarise([judged([(here, here)])]).denied is None


def test_an_answer_after_the_object_left_counts_until_it_ends() -> None:
    here, gone = (box(4, 4), box(4, 4)), (NOTHING, NOTHING)
    late = (NOTHING, box(4, 4))
    score = judged([here, late, late, late, gone, late, here, *[late] * 4])
    assert (score.gone, score.shown) == (9, 8)
    assert score.absence.events == 2 and score.absence.soon == 1
    assert score.absence.frames == 3 + 4, "the second one is never noticed: all its frames"
    slow = judged([here, *[late] * SOON, gone])
    assert (slow.absence.frames, slow.absence.soon) == (SOON, 0)
    soon = judged([here, *[late] * (SOON - 1), gone])
    assert (soon.absence.frames, soon.absence.soon) == (SOON - 1, 1)
    back = judged([here, late, late, here, here]).absence
    assert (back.events, back.frames, back.soon) == (1, 2, 0), "it came back unnoticed"


def test_an_object_that_comes_back_is_waited_for() -> None:
    here, gone, missed = (box(4, 4), box(4, 4)), (NOTHING, NOTHING), (box(4, 4), NOTHING)
    poor = (box(4, 4), box(4, 9))
    score = judged([here, gone, missed, poor, here, missed, gone, missed])
    assert score.again.events == 2 and score.again.soon == 1
    assert score.again.frames == 2 + 1
    assert score.missed == 3
    figures = summarise([score])
    assert figures.again is not None and figures.again.value == pytest.approx(1.5)
    assert figures.again_soon is not None and figures.again_soon.value == pytest.approx(50)
    assert figures.missed is not None and figures.missed.value == pytest.approx(300 / 6)


def test_a_sliver_is_neither_there_nor_gone() -> None:
    sliver = box(0, 0, 1, 1)  # 1 of 600 pixels
    score = judged([(box(4, 4), box(4, 4)), (sliver, NOTHING), (sliver, box(4, 4))])
    assert score.there == 1 and score.gone == 0 and score.shown == score.missed == 0
    assert judged([(NOTHING, sliver)]).shown == 0, "nor is it an answer"
    # 1 of 400 pixels is just enough of both.
    least, origin, score = np.zeros((20, 20), np.bool_), still()[:, :20], VideoScore()
    least[3, 3] = True
    score.add(least, least, origin)
    score.add(least, np.zeros_like(least), origin)
    assert (score.there, score.missed, score.shown) == (1, 0, 1)


def test_nothing_to_judge_is_no_figure() -> None:
    never = summarise([judged([(NOTHING, NOTHING)] * 3)])
    assert never.j is None and never.f is None and never.absence is None and never.again is None
    assert never.shown_absent is not None and never.shown_absent.value == 0
    kept = plain(judged([(box(4, 4), NOTHING), (NOTHING, NOTHING)]))
    assert kept["frames"] == 2 and kept["absence"] == {"events": 1, "frames": 0, "soon": 1}
    assert not [name for name in kept if name.startswith("_")]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit"):
        VideoScore().add(np.zeros((3, 4), np.bool_), NOTHING, still())
    with pytest.raises(InputError, match="motion"):
        VideoScore().add(NOTHING, NOTHING, still()[:4])


def test_an_interval_narrows_with_the_samples() -> None:
    rng = np.random.default_rng(1)

    def width(count: int) -> float:
        values = rng.normal(0, 1, count)
        found = bootstrap(count, lambda times: float(times @ values / times.sum()))
        assert found.low < found.value < found.high
        return found.high - found.low

    # The mean of n: 2 x 1.96 standard errors.
    assert width(400) == pytest.approx(2 * 1.96 / 20, rel=0.2)
    assert width(25) > 2 * width(400)
