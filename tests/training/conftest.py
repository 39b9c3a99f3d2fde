from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.data_sets.tiny_sets import write_folder

from hsnet_trt.training.settings import Part, Settings


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums come out the same to the last bit, in this process and in others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("blobs"))


@pytest.fixture
def small(blobs: Path) -> Settings:
    """Learning all of a ResNet-18 from a few pictures of 64 x 64."""
    return Settings(
        data=("folder",),
        root=blobs,
        backbone="resnet18",
        train_backbone=True,
        size=(64, 64),
        batch=2,
        steps=5,
        validate_every=3,
        validation_episodes=4,
    )


@pytest.fixture
def pooled(small: Settings) -> Settings:
    """Of two sizes, from a pool, with averaged weights."""
    return dataclasses.replace(
        small, batch=4, reuse=2, size=(80, 80), sizes=(Part(64, 0.5, 3), Part(80, 0.5, 2)),
        average=0.9, clip=1.0, schedule="cosine", augment=True, both_ways=True,
    )  # fmt: skip
