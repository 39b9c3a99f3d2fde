"""Batches of several sizes from one pool."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from hsnet_trt.data.episodes.episode import Skipped
from hsnet_trt.errors import InputError
from hsnet_trt.training.batches import Batch
from hsnet_trt.training.settings import Part, Settings
from hsnet_trt.training.supply import batches_of, random_of, views


def test_batches_of_several_sizes_come_from_one_pool(pooled: Settings) -> None:
    device = torch.device("cpu")
    shapes = [
        tuple(views(batch, pooled, step)[0].shape)
        for step, batch in enumerate(
            batches_of(dataclasses.replace(pooled, steps=20), 0, device, Skipped())
        )
    ]
    assert set(shapes) == {(6, 3, 64, 64), (4, 3, 80, 80)} and len(shapes) == 20


def test_a_part_is_square_also_where_the_pool_is_not(pooled: Settings) -> None:
    settings = dataclasses.replace(pooled, size=(64, 96), sizes=(Part(64, 1.0, 2),))
    batch = Batch(torch.zeros(4, 3, 64, 96, dtype=torch.uint8), torch.zeros(4, 64, 96).bool())
    images, masks = views(batch, settings, 0)
    assert images.shape == (4, 3, 64, 64) and masks.shape == (4, 64, 64)


def test_any_seed_gives_a_generator() -> None:
    """Also one that was made of the time."""
    device = torch.device("cpu")
    seeds = [random_of(20261129123456, step, 1, device).initial_seed() for step in (0, 1)]
    assert seeds[1] - seeds[0] == 4


def test_sizes_without_a_pool_are_refused(small: Settings) -> None:
    with pytest.raises(InputError, match="shrunk from a pool"):
        dataclasses.replace(small, sizes=(Part(48, 1.0, 2),))
    with pytest.raises(InputError, match="shrunk from a pool"):
        dataclasses.replace(small, batch=4, reuse=2, sizes=(Part(80, 1.0, 2),))
