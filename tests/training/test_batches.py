"""Batches and pools of episodes, their validation, and settings that make no sense."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.data_sets.tiny_sets import write_folder
from helpers.training_runs import batches

from hsnet_trt.data.episodes.episode import Skipped
from hsnet_trt.data.episodes.metrics import Score
from hsnet_trt.errors import InputError
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.recipe import recipe_model
from hsnet_trt.training.batches import Batch, as_batch, learning_batches, normalise
from hsnet_trt.training.recycling import Pool
from hsnet_trt.training.settings import Part, Settings
from hsnet_trt.training.validation import Validation


def test_batches_are_the_same_wherever_one_begins_and_whoever_draws(small: Settings) -> None:
    whole = batches(small, 0, 4)
    later = batches(small, 2, 2, workers=2)
    for a, b in zip(whole[2:], later, strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.masks, b.masks)
    assert not torch.equal(whole[0].images, whole[1].images)


def test_a_batch_holds_queries_then_supports(small: Settings) -> None:
    episodes = [small.source().open("train")[i] for i in range(3)]
    batch = as_batch(episodes)
    assert batch.images.shape == (6, 3, 64, 64) and batch.images.dtype == torch.uint8
    assert len(batch) == 3
    for i, episode in enumerate(episodes):
        np.testing.assert_array_equal(batch.images[i].permute(1, 2, 0), episode.query)
        np.testing.assert_array_equal(batch.images[3 + i].permute(1, 2, 0), episode.supports[0])
        np.testing.assert_array_equal(batch.masks[i], episode.query_mask)
        np.testing.assert_array_equal(batch.masks[3 + i], episode.support_masks[0])
    pixel = normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten()
    assert pixel.tolist() == pytest.approx([2.2489, 2.4286, 2.6400], abs=1e-4)


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_files_stop_the_run_or_are_listed(tmp_path: Path, workers: int) -> None:
    root = write_folder(tmp_path / "set", images=3)
    (root / "class0" / "1.jpg").write_bytes(b"no picture")
    episodes = Settings(data=("folder",), root=root, size=(64, 64), train_backbone=True).source()
    arguments = {"first": 0, "count": 6, "batch": 2, "workers": workers, "pin": False}
    with pytest.raises(InputError, match=r"class0/1\.jpg"):
        list(learning_batches(episodes.open("train"), skip_bad=False, **arguments))
    skipped = Skipped()
    drawn = list(learning_batches(episodes.open("train"), skip_bad=True, **arguments))
    for _, broken in drawn:
        for error in broken:
            skipped.add(error)
    assert [len(batch) for batch, _ in drawn] == [2] * 6
    assert len(skipped) == 1 and "class0/1.jpg" in skipped.files[0]
    shutil.rmtree(root / "class1")
    for path in (root / "class0").glob("*.jpg"):
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"\.jpg"):
        list(learning_batches(episodes.open("train"), skip_bad=True, **arguments))


def numbered(number: int) -> Batch:
    """Three episodes whose pixels say which they are; supports' are 100 above their queries'."""
    values = torch.arange(3) + 3 * number
    images = torch.cat([values, values + 100]).to(torch.uint8)[:, None, None, None]
    return Batch(images.expand(6, 3, 4, 4).clone(), (images[:, 0] % 2 == 0).expand(6, 4, 4).clone())


def test_a_pool_that_is_filled_again_holds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hsnet_trt.training.recycling._MOST", 9)  # three batches of three
    device = torch.device("cpu")
    whole, again = Pool((4, 4), 3, device), Pool((4, 4), 3, device)
    for number in range(5):
        whole.put(numbered(number))
    assert again.refill(5) == 3
    for number in (2, 3, 4):
        again.put(numbered(number))
    a, b = (pool.draw(60, torch.Generator().manual_seed(1)) for pool in (whole, again))
    assert torch.equal(a.images, b.images) and torch.equal(a.masks, b.masks)
    values = a.images[:, 0, 0, 0].int()
    # The two oldest batches are gone; queries stay with their supports, pictures with their masks.
    assert set(values[:60].tolist()) == set(range(6, 15))
    assert torch.equal(values[60:], values[:60] + 100)
    assert torch.equal(a.masks[:, 0, 0], values % 2 == 0)


def test_a_pool_that_is_not_full_gives_what_is_there() -> None:
    pool = Pool((4, 4), 3, torch.device("cpu"))
    pool.put(numbered(7))
    assert set(pool.draw(60, torch.Generator().manual_seed(1)).images[:60].unique().tolist()) == {
        21,
        22,
        23,
    }


@pytest.mark.parametrize("kept", [1 << 30, 0])
def test_validation_counts_as_the_score_does(
    small: Settings, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr("hsnet_trt.training.validation._KEPT_BYTES", kept)
    episodes = dataclasses.replace(small.validation_source, shots=2).open("val")
    model: HSNet = recipe_model("resnet18")
    score = Score(episodes.classes)
    for episode in episodes.take(5):
        shown = [
            normalise(torch.from_numpy(p.copy()).permute(0, 3, 1, 2))
            for p in (episode.query[None], episode.supports)
        ]
        marked = torch.from_numpy(episode.support_masks)[None]
        score.add(episode, model.predict(shown[0], shown[1][None], marked)[0].numpy() > 0.5)
    validation = Validation(episodes, 5, None)
    for _ in range(2):
        assert validation.miou(model, torch.device("cpu"), 2) == pytest.approx(score.miou(), 1e-3)
    assert [e.query_name for e in validation.first(2)] == [episodes[i].query_name for i in (0, 1)]


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"batch": 3, "reuse": 2},
        {"batch": 1},
        {"learning_rate": 0.0},
        {"precision": "fp16"},
        {"schedule": "linear"},
        {"learning_rate": float("nan")},
        {"minutes": float("nan")},
        {"clip": -1.0},
        {"average": 1.5},
        {"seed": -1},
        {"workers": -1},
        {"start_from": Path("a.pt"), "backbone_weights": Path("b.pt")},
        {"reuse": 2, "sizes": (Part(64, 0.0, 2),)},
        {"reuse": 2, "sizes": (Part(64, 1.0, 0),)},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(
    small: Settings, changes: dict[str, object]
) -> None:
    with pytest.raises(InputError):
        dataclasses.replace(small, **changes)
