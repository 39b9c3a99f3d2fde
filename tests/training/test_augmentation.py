"""Augmentation of pictures and their masks alike."""

from __future__ import annotations

import torch

from hsnet_trt.training.augmentation import augment


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


def test_pictures_of_nothing_are_augmented_too() -> None:
    images = torch.randint(0, 255, (1, 3, 32, 32), dtype=torch.uint8)
    nothing = torch.zeros(1, 32, 32, dtype=torch.bool)
    seen, masks = augment(images, nothing, torch.Generator().manual_seed(1))
    whole = torch.ones(1, 32, 32, dtype=torch.bool)
    other, _ = augment(images, whole, torch.Generator().manual_seed(1))
    assert torch.equal(seen, other) and not masks.any()
