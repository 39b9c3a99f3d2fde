"""mIoU of a network on episodes, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsnet_trt.data.episodes.episode import Episode, Episodes, Mask, Skipped
from hsnet_trt.data.episodes.metrics import Score
from hsnet_trt.errors import InputError
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.training.batches import normalise

_KEPT_BYTES = 2 << 30  # of episodes kept between validations


class Validation:
    """A fixed set of episodes, kept in memory if they take no more than 2 GiB."""

    def __init__(self, episodes: Episodes, count: int, skipped: Skipped | None) -> None:
        self.name = episodes.name
        self._episodes, self._count, self._skipped = episodes, count, skipped
        self._kept: list[Episode] | None = None

    def miou(self, model: HSNet, device: torch.device, batch: int) -> float:
        """mIoU of `model` in percent; the model is left in eval mode.

        Raises:
            InputError: no episode could be read.
        """
        score = Score(self._episodes.classes)
        for part in _parts(self._all(), batch):
            for episode, answer in zip(part, answer_batch(model, part, device), strict=True):
                score.add(episode, answer)
        if not len(score):
            raise InputError(
                f"no episode of {self.name} could be read",
                expected="one at least",
                found=self._skipped.files[0] if self._skipped else None,
            )
        return score.miou()

    def first(self, count: int) -> list[Episode]:
        """The first `count` episodes."""
        return [episode for episode, _ in zip(self._all(), range(count), strict=False)]

    def _all(self) -> Iterator[Episode]:
        if self._kept is not None:
            yield from self._kept
            return
        kept, total = [], 0
        for episode in self._episodes.take(self._count, skipped=self._skipped):
            total += episode.query.nbytes + episode.supports.nbytes
            total += episode.query_mask.nbytes + episode.support_masks.nbytes
            if total <= _KEPT_BYTES:
                kept.append(episode)
            yield episode
        if total <= _KEPT_BYTES:
            self._kept = kept


@torch.no_grad()
def answer_batch(model: HSNet, episodes: Sequence[Episode], device: torch.device) -> list[Mask]:
    """The voted masks, bool [H,W], of episodes with the same size and number of shots."""
    model.eval()
    shots, size = episodes[0].shots, episodes[0].query.shape[:2]
    query = _images(np.stack([e.query for e in episodes]), device)
    supports = _images(np.concatenate([e.supports for e in episodes]), device)
    masks = torch.from_numpy(np.stack([e.support_masks for e in episodes])).to(device)
    answers = model.predict(query, supports.view(-1, shots, *supports.shape[1:]), masks)
    assert answers.shape[1:] == size
    return list((answers > 0.5).cpu().numpy())


def _images(pictures: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    return normalise(torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2))


def _parts(episodes: Iterator[Episode], size: int) -> Iterator[list[Episode]]:
    part: list[Episode] = []
    for episode in episodes:
        part.append(episode)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
