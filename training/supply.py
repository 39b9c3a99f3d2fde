"""The batch of each step: fresh or from a pool, augmented and resized.

It is determined by the seed and the number of the step.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from hsnet_trt.data.episodes.episode import Skipped
from hsnet_trt.training.augmentation import augment
from hsnet_trt.training.batches import Batch, learning_batches
from hsnet_trt.training.recycling import Pool
from hsnet_trt.training.settings import Part, Settings

_WARM_BATCHES = 4  # in the pool before the first step
_CPU = torch.device("cpu")


def batches_of(
    settings: Settings, step: int, device: torch.device, skipped: Skipped
) -> Iterator[Batch]:
    """The batches of the steps from `step` on, on the device; broken episodes go to `skipped`."""
    episodes = settings.source().open("train", skipped=skipped if settings.skip_bad else None)
    fresh = settings.batch // settings.reuse
    pool = None
    first, put_in_again = step, 0
    if settings.reuse > 1:
        pool = Pool(settings.size, fresh, device)
        ahead = _WARM_BATCHES * settings.reuse
        put_in_again = pool.refill(step + ahead) if step else ahead
        first = step + ahead - put_in_again
    drawn = learning_batches(
        episodes,
        first=first,
        count=put_in_again + settings.steps - step,
        batch=fresh,
        workers=settings.workers,
        skip_bad=settings.skip_bad,
        pin=device.type == "cuda",
    )
    for number, (batch, broken) in enumerate(drawn):
        for error in broken:
            skipped.add(error)
        there = batch.to(device)
        if pool is None:
            yield there
            continue
        pool.put(there)
        if number >= put_in_again:
            at = step + number - put_in_again
            count = _part(settings, at).batch if settings.sizes else settings.batch
            yield pool.draw(count, random_of(settings.seed, at, 1, device))


def views(batch: Batch, settings: Settings, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch of a step, augmented and resized to the step's size.

    Returns:
        float32 or uint8 [2B,3,h,w] in 0..255, and bool [2B,h,w].
    """
    images, masks = batch.images, batch.masks
    if settings.augment:
        generator = random_of(settings.seed, step, 2, batch.images.device)
        images, masks = augment(images, masks, generator)
    side = _part(settings, step).side if settings.sizes else 0
    if not side or settings.size == (side, side):
        return images, masks

    def shrunk(pictures: torch.Tensor) -> torch.Tensor:
        return F.interpolate(
            pictures.float(), (side, side), mode="bilinear", antialias=True, align_corners=False
        )

    return shrunk(images), shrunk(masks.unsqueeze(1)).squeeze(1) > 0.5


def _part(settings: Settings, step: int) -> Part:
    """The part of `sizes` that a step uses."""
    assert settings.sizes
    total = sum(part.share for part in settings.sizes)
    chance = float(torch.rand(1, generator=random_of(settings.seed, step, 3, _CPU))) * total
    for part in settings.sizes:
        chance -= part.share
        if chance < 0:
            return part
    return settings.sizes[-1]


def random_of(seed: int, step: int, use: int, device: torch.device) -> torch.Generator:
    """A generator seeded by the step alone, so that no generator state needs to be saved."""
    generator = torch.Generator(device=device)
    generator.manual_seed(((seed * 1_000_003 + step) * 4 + use) % (1 << 63))
    return generator
