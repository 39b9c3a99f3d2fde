"""Whether a class is still there: beside the most presence that it had, and held."""

from __future__ import annotations

import pytest

from hsnet_trt.runtime.video.here import FROM, Here


@pytest.mark.parametrize("most", [0.9, 0.2])
def test_what_left_is_noticed_whatever_presence_it_had(most: float) -> None:
    here = Here()
    assert all(here.add(most, 1.0) >= FROM for _ in range(20))
    gone = [here.add(0.4 * most, 1.0) >= FROM for _ in range(10)]
    assert gone[0] and not gone[-1]
    back = [here.add(most, 1.0) >= FROM for _ in range(10)]
    assert back[-1] and back == sorted(back)


def test_between_the_two_thresholds_it_stays_what_it_was() -> None:
    here = Here()
    for presence in (0.8, 0.8, 0.7 * 0.8, *[0.63 * 0.8] * 8):
        assert here.add(presence, 1.0) >= FROM
    for _ in range(100):
        here.add(0.3 * 0.8, 1.0)
    for _ in range(10):
        assert here.add(0.66 * 0.8, 1.0) < FROM


def test_frames_that_say_nothing_change_nothing() -> None:
    here = Here()
    assert here.add(None, 1.0) == 1.0
    here.add(0.5, 1.0)
    score = here.add(0.45, 1.0)
    assert here.add(None, 1.0) == score
    assert Here().add(0.0, 1.0) >= FROM  # it never had any


def test_what_is_shown_with_certainty_is_there() -> None:
    here = Here()
    for _ in range(10):
        here.add(0.8, 6.0)
    assert all(here.add(0.1, 6.0) >= FROM for _ in range(10))
    assert here.add(0.1, 2.0) < FROM


def test_closer_looks_are_compared_to_closer_looks() -> None:
    here = Here()
    for _ in range(5):
        assert here.add(0.4, 1.0) >= FROM
        assert all(here.add(0.9, 1.0, closer=True) >= FROM for _ in range(3))
    gone = [here.add(0.4, 1.0, closer=True) >= FROM for _ in range(10)]
    assert not gone[-1]
