from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.data_sets.tiny_sets import write_folder

from hsnet_trt.data.episodes.episode import Skipped
from hsnet_trt.data.episodes.metrics import Score
from hsnet_trt.errors import InputError
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.recipe import recipe_model
from hsnet_trt.training.augmentation import augment
from hsnet_trt.training.batches import Batch, as_batch, learning_batches, normalise
from hsnet_trt.training.objective import Objective
from hsnet_trt.training.recycling import Pool
from hsnet_trt.training.settings import Settings
from hsnet_trt.training.validation import Validation


def batches(settings: Settings, first: int, count: int, workers: int = 0) -> list[Batch]:
    drawn = learning_batches(
        settings.source().open("train"),
        first=first,
        count=count,
        batch=3,
        workers=workers,
        skip_bad=False,
        pin=False,
    )
    return [batch for batch, broken in drawn if not broken]


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


def test_a_picture_and_its_mask_move_together() -> None:
    masks = torch.zeros(32, 64, 96, dtype=torch.bool)
    masks[:, 15:45, 20:50] = True
    images = (masks[:, None] * 200 + 20).to(torch.uint8).expand(-1, 3, -1, -1)
    changed, seen = augment(images, masks, torch.Generator().manual_seed(3))
    assert changed.shape == images.shape and changed.dtype == torch.float32
    assert float(changed.min()) >= 0 and float(changed.max()) <= 255
    grey = changed.mean(1)
    middle = (grey.amax((1, 2)) + grey.amin((1, 2))) / 2
    agreement = ((grey > middle[:, None, None]) == seen).float().mean((1, 2))
    assert float(agreement.min()) > 0.97
    assert (seen != masks).flatten(1).any(1).sum() >= 30 and seen.flatten(1).any(1).all()
    same = augment(images, masks, torch.Generator().manual_seed(3))
    assert torch.equal(same[0], changed) and torch.equal(same[1], seen)


def test_a_turn_keeps_angles_in_pictures_that_are_not_square() -> None:
    masks = torch.zeros(40, 64, 128, dtype=torch.bool)
    masks[:, 27:37, 59:69] = True  # a square of 10 stays one: as long as it is wide
    _, seen = augment(
        masks[:, None].expand(-1, 3, -1, -1).byte(), masks, torch.Generator().manual_seed(0)
    )
    whole = 0
    for mask in seen:
        rows, columns = mask.nonzero(as_tuple=True)
        if rows.min() > 0 and rows.max() < 63 and columns.min() > 0 and columns.max() < 127:
            assert abs(int(rows.max() - rows.min()) - int(columns.max() - columns.min())) <= 2
            whole += 1
    assert whole >= 10


def test_the_loss_is_cross_entropy_on_upsampled_logits(small: Settings) -> None:
    model = recipe_model("resnet18")
    batch = batches(small, 0, 1)[0]
    images = normalise(batch.images)
    frozen = Objective(model, train_backbone=False, both_ways=False).train()
    query, support = images[:3], images[3:]
    with torch.no_grad():
        logits = [model(query, support, batch.masks[3:]), model(support, query, batch.masks[:3])]
    chance = [
        two.softmax(1).gather(1, truth[:, None].long())
        for two, truth in zip(logits, batch.masks.split(3), strict=True)
    ]
    one_way, other_way = (float(-shares.log().mean()) for shares in chance)
    loss = frozen(images, batch.masks)
    assert loss.item() == pytest.approx(one_way, rel=1e-4)
    both = Objective(model, train_backbone=False, both_ways=True).train()
    assert both(images, batch.masks).item() == pytest.approx((one_way + other_way) / 2, rel=1e-4)

    loss.backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    assert all(p.grad is not None for p in model.hpn_learner.parameters())
    assert not model.backbone.training and model.hpn_learner.training
    learning = Objective(model, train_backbone=True, both_ways=False).train()
    learning(images, batch.masks).backward()
    assert model.backbone.training
    assert all(p.grad is not None for p in model.backbone.parameters())


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
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(
    small: Settings, changes: dict[str, object]
) -> None:
    with pytest.raises(InputError):
        dataclasses.replace(small, **changes)
