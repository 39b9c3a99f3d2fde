"""Motion between pictures, and logits averaged along it."""

from __future__ import annotations

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from hsnet_trt.runtime.pictures.preprocess import place  # noqa: E402
from hsnet_trt.runtime.video.motion import SIDE, Motion, MotionFinder, shrink  # noqa: E402
from hsnet_trt.runtime.video.steady import Steady  # noqa: E402


def texture(seed: int = 0, size: int = 400) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grain = rng.integers(0, 255, (size // 8, size // 8, 3)).astype(np.uint8)
    return cv2.resize(grain, (size, size), interpolation=cv2.INTER_CUBIC)


def small(pixels: np.ndarray, policy: str = "stretch"):
    return shrink(pixels, place((pixels.shape[0], pixels.shape[1]), (256, 256), policy))


def still(side: int = SIDE) -> Motion:
    return Motion(
        np.zeros((side, side, 2), np.float32), np.zeros((side, side), np.float32), cut=False
    )


def test_a_shift_is_found() -> None:
    picture = texture()
    finder = MotionFinder()
    assert finder.find(small(picture[50:306, 50:306])) is None
    # 8 pixels of 256 to the left and 4 up: what is here was right and below... by 4 and 2 of 128.
    motion = finder.find(small(picture[54:310, 58:314]))
    assert motion is not None and not motion.cut
    inner = motion.back[20:-20, 20:-20].reshape(-1, 2)
    np.testing.assert_allclose(np.median(inner, 0), (4, 2), atol=0.3)
    assert np.median(motion.error[20:-20, 20:-20]) < 5


def test_a_small_thing_that_is_fast_is_found_once_its_motion_is_known() -> None:
    ground, thing, finder = texture(), texture(1)[:64, :64], MotionFinder()
    for number in range(5):
        picture = ground[:256, :256].copy()
        left = 20 + 16 * number
        picture[100:164, left : left + 64] = thing
        motion = finder.find(small(picture))
    assert motion is not None
    inside = motion.back[54:78, left // 2 + 4 : left // 2 + 28].reshape(-1, 2)
    np.testing.assert_allclose(np.median(inside, 0), (-8, 0), atol=0.5)
    assert (np.abs(inside - (-8, 0)).max(1) < 2).mean() > 0.8


def test_a_cut_is_other_colours() -> None:
    finder = MotionFinder()
    finder.find(small(texture()))
    dark = (texture(1) // 6).astype(np.uint8)
    cut, again = finder.find(small(dark)), finder.find(small(dark))
    assert cut is not None and cut.cut and again is not None and not again.cut


def test_bgr_and_letterboxes_are_placed_as_the_network_sees_them() -> None:
    picture = texture()[:200]
    one, other = small(picture), small(picture[:, :, ::-1].copy()[:, :, ::-1])
    np.testing.assert_array_equal(one.grey, other.grey)
    boxed = small(picture, "letterbox").grey
    assert boxed.shape == (SIDE, SIDE) and not boxed[:32].any() and not boxed[96:].any()
    assert boxed[32:96].all(axis=1).any()


def test_noise_is_averaged_away_where_nothing_moves() -> None:
    rng, steady = np.random.default_rng(0), Steady()
    truth = np.full((32, 32), -2, np.float32)
    truth[8:20, 8:20] = 2
    planes = [truth + rng.normal(0, 3, truth.shape).astype(np.float32) for _ in range(60)]
    shown = [steady.add(plane, still()) > 0 for plane in planes]
    wrong = [(plane > 0) != (truth > 0) for plane in planes]
    assert np.mean(wrong) > 0.2 and np.mean(shown[-1] != (truth > 0)) < 0.02


def test_the_average_is_that_of_the_docs() -> None:
    """Of even planes, in float64: weights fade by 7 % a frame, and with the error of the motion."""
    rng, steady, mean, weight = np.random.default_rng(0), Steady(), 0.0, 0.0
    for _ in range(40):
        plane, count, error = rng.uniform(2, 8), rng.choice([0, 0.3, 1]), rng.choice([0, 3, 9, 20])
        motion = Motion(still().back, np.full((SIDE, SIDE), error, np.float32), cut=False)
        counts = np.full((16, 16), count, np.float32)
        shown = steady.add(np.full((16, 16), plane, np.float32), motion, counts)
        latest, first = min(plane, 6.0), weight == mean == 0
        weight = weight * (1 - 0.07) * max(0, 1 - error / 15) + count
        mean = latest if first else mean + (count / weight if weight else 0) * (latest - mean)
        np.testing.assert_allclose(shown, mean + (0 if first else 0.5), rtol=1e-4)


def test_the_average_moves_with_the_picture() -> None:
    steady = Steady()
    plane = np.full((64, 64), -4, np.float32)
    plane[20:30, 20:30] = 4
    for _ in range(5):
        steady.add(plane, still())
    motion = still()
    motion.back[..., 0] -= 8  # in pixels of 128: 4 positions to the right
    nothing = np.full((64, 64), -4, np.float32)
    shown = steady.add(nothing, motion) > 0
    columns = np.flatnonzero(shown.any(0))
    assert abs(columns[0] - 24) <= 1 and abs(columns[-1] - 33) <= 1


def test_where_looks_are_rare_each_counts_for_more() -> None:
    """What comes in needs nearly as many frames to be shown, not as many looks."""
    frames = {}
    for every in (1, 4):
        steady, nothing = Steady(), np.full((32, 32), -4, np.float32)
        for number in range(200):
            counts = np.full((32, 32), 1.0 if number % every == 0 else 0.0, np.float32)
            shown = steady.add(nothing + (8 if number >= 100 else 0), still(), counts) > 0
            if shown.all():
                frames[every] = number - 100
                break
    assert frames[4] <= 2 * frames[1] + 4


def test_what_the_motion_does_not_explain_is_answered_anew() -> None:
    steady = Steady()
    here, there = np.full((32, 32), -4, np.float32), np.full((32, 32), -4, np.float32)
    here[4:10, 4:10] = there[20:28, 20:28] = 4
    steady.add(here, None)
    moved = still()
    broken = Motion(moved.back, np.full((SIDE, SIDE), 200, np.float32), cut=False)
    np.testing.assert_array_equal(steady.add(there, broken) > 0, there > 0)
    cut = Motion(moved.back, moved.error, cut=True)
    np.testing.assert_array_equal(steady.add(here, cut) > 0, here > 0)


@pytest.mark.parametrize(
    ("peak", "highest", "kept"), [(0.65, 0.9, 0), (0.75, 0.9, 1), (2.9, 5, 0), (3.1, 5, 1)]
)
def test_a_part_must_be_sure_itself_and_near_the_surest(
    peak: float, highest: float, kept: int
) -> None:
    plane = np.full((32, 32), -4, np.float32)
    plane[4:10, 4:10], plane[20:24, 20:24] = highest, peak
    shown = Steady().add(plane, None) > 0
    assert shown[6, 6] and shown[20:24, 20:24].sum() == 16 * kept


def test_weak_parts_are_not_shown_and_the_threshold_holds() -> None:
    steady = Steady()
    plane = np.full((32, 32), -4, np.float32)
    plane[4:10, 4:10], plane[20:24, 20:24] = 3, 0.7
    shown = steady.add(plane, None) > 0
    assert shown[6, 6] and not shown[21, 21]
    # At its border, what falls just below 0 stays, and what comes just above 0 is not shown.
    for _ in range(60):
        plane[4, 4:10], plane[3, 4:10] = -0.1, 0.1
        shown = steady.add(plane, still()) > 0
    assert shown[4, 6] and not shown[3, 6]
