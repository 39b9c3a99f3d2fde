"""The learning rate over steps, and over time."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from hsnet_trt.training.loop import learning_rate
from hsnet_trt.training.settings import Settings


def test_the_cosine_schedule_rises_and_ends_at_nothing(small: Settings) -> None:
    settings = dataclasses.replace(small, steps=100, schedule="cosine", learning_rate=1.0)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(a >= b for a, b in itertools.pairwise(rates[4:]))
    assert rates[-1] < 0.001
    assert learning_rate(dataclasses.replace(settings, schedule="constant"), 77) == 1.0


def test_the_rate_follows_the_time_where_time_is_the_budget(pooled: Settings) -> None:
    settings = dataclasses.replace(pooled, minutes=1, learning_rate=1.0)
    rates = [learning_rate(settings, 1000, seconds) for seconds in (0, 30, 60, 70)]
    assert rates == pytest.approx([1.0, 0.51, 0.02, 0.02])
    assert learning_rate(settings, 0, 0) == pytest.approx(1 / 150)
