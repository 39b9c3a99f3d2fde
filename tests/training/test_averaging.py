"""The running mean of the weights."""

from __future__ import annotations

import pytest
import torch

from hsnet_trt.training.averaging import Average


def test_the_mean_of_the_weights_is_what_is_kept() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    average = Average([weight], 0.5)
    values = [1.0, 5.0, 2.0]
    mean = 0.0
    for step, value in enumerate(values, start=1):
        with torch.no_grad():
            weight.fill_(value)
        average.update(step)
        keep = min(0.5, step / (step + 10))
        mean = keep * mean + (1 - keep) * value
    assert average.means[0].tolist() == pytest.approx([mean] * 3)
    with average.in_place():
        assert weight.tolist() == pytest.approx([mean] * 3)
    assert weight.tolist() == [2.0] * 3
