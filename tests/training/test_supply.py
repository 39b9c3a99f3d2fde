"""Batches of several sizes from one pool."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from hsnet_trt.data.episodes.episode import Skipped
from hsnet_trt.errors import InputError
from hsnet_trt.training.settings import Part, Settings
from hsnet_trt.training.supply import batches_of, views


def test_batches_of_several_sizes_come_from_one_pool(pooled: Settings) -> None:
    device = torch.device("cpu")
    shapes = [
        tuple(views(batch, pooled, step)[0].shape)
        for step, batch in enumerate(
            batches_of(dataclasses.replace(pooled, steps=20), 0, device, Skipped())
        )
    ]
    assert set(shapes) == {(6, 3, 64, 64), (4, 3, 80, 80)} and len(shapes) == 20


def test_sizes_without_a_pool_are_refused(small: Settings) -> None:
    with pytest.raises(InputError, match="shrunk from a pool"):
        dataclasses.replace(small, sizes=(Part(48, 1.0, 2),))
    with pytest.raises(InputError, match="shrunk from a pool"):
        dataclasses.replace(small, batch=4, reuse=2, sizes=(Part(80, 1.0, 2),))
