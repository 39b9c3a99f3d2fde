"""The loss, and what is not learned from."""

from __future__ import annotations

import pytest
import torch
from helpers.training_runs import batches

from hsnet_trt.model.recipe import recipe_model
from hsnet_trt.training.batches import normalise
from hsnet_trt.training.objective import Objective
from hsnet_trt.training.settings import Settings


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


def test_a_pair_that_asks_for_nothing_is_not_learned_from() -> None:
    """The query of an absent class has an empty mask; as a support it would ask for nothing."""
    model = recipe_model("resnet18")
    objective = Objective(model, train_backbone=False, both_ways=True).eval()
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(4, 64, 64, dtype=torch.bool)
    masks[:, 8:40, 8:40] = True
    masks[0] = False  # the first query
    found = objective(images, masks)
    one_way = Objective(model, train_backbone=False, both_ways=False).eval()
    pairs = [one_way(images[[q, s]], masks[[q, s]]) for q, s in ((0, 2), (1, 3), (3, 1))]
    assert found.item() == pytest.approx(torch.stack(pairs).mean().item(), rel=1e-4)
