"""Whether a class is still there: beside the most presence that it had, and held."""

from __future__ import annotations

import pytest

from hsnet_trt.runtime.video.here import FROM, Here


@pytest.mark.parametrize("most", [0.9, 0.2])
def test_what_left_is_noticed_whatever_presence_it_had(most: float) -> None:
    here = Here()
    assert all(here.add(most) >= FROM for _ in range(20))
    gone = [here.add(0.4 * most) >= FROM for _ in range(10)]
    assert gone[0] and not gone[-1]
    back = [here.add(most) >= FROM for _ in range(10)]
    assert back[-1] and back == sorted(back)


def test_between_the_two_thresholds_it_stays_what_it_was() -> None:
    here = Here()
    for presence in (0.8, 0.8, 0.7 * 0.8, *[0.58 * 0.8] * 8):
        assert here.add(presence) >= FROM
    for _ in range(1000):
        here.add(0.3 * 0.8)
    for _ in range(10):
        assert here.add(0.62 * 0.8) < FROM


def test_frames_that_say_nothing_change_nothing() -> None:
    here = Here()
    assert here.add(None) == 1.0
    here.add(0.5)
    score = here.add(0.45)
    assert here.add(None) == score
    assert Here().add(0.0) >= FROM  # it never had any
