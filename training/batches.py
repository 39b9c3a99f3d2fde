"""Episodes as batches of tensors. Worker processes draw them; which and in what order is fixed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hsnet_trt.data.episodes.episode import Episode, Episodes
from hsnet_trt.errors import InputError

_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, as HSNet wants its images
_STD = (0.229, 0.224, 0.225)
_MOST_BROKEN = 100  # in a row


@dataclass(frozen=True)
class Batch:
    """B episodes of one support each.

    Attributes:
        images: uint8 [2B,3,H,W] RGB: the B queries, then the B supports.
        masks: bool [2B,H,W], in the same order.
    """

    images: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.images) // 2

    def to(self, device: torch.device) -> Batch:
        """The batch on another device; from pinned memory without waiting."""
        return Batch(
            self.images.to(device, non_blocking=True), self.masks.to(device, non_blocking=True)
        )

    def pin_memory(self) -> Batch:
        """What DataLoader calls before a copy to a GPU."""
        return Batch(self.images.pin_memory(), self.masks.pin_memory())


def normalise(images: Tensor) -> Tensor:
    """RGB [N,3,H,W] in 0..255 -> what HSNet takes, float32."""
    mean = torch.tensor(_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(_STD, device=images.device).view(3, 1, 1)
    return (images.float() / 255 - mean) / std


def as_batch(episodes: Sequence[Episode]) -> Batch:
    """Put episodes together, with the first support of each."""
    images = [e.query for e in episodes] + [e.supports[0] for e in episodes]
    masks = [e.query_mask for e in episodes] + [e.support_masks[0] for e in episodes]
    return Batch(
        torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()),
        torch.from_numpy(np.stack(masks)),
    )


def learning_batches(
    episodes: Episodes,
    *,
    first: int,
    count: int,
    batch: int,
    workers: int,
    skip_bad: bool,
    pin: bool,
) -> Iterator[tuple[Batch, list[InputError]]]:
    """Yield batches `first`, `first + 1`, ..., `count` of them, each with what was left out of it.

    Batch i holds the episodes from i * batch on, whatever the number of workers and the first
    batch; so a resumed run sees the same episodes as one that was not interrupted.

    Args:
        episodes: endless.
        first: number of the first batch.
        count: how many batches.
        batch: episodes in each.
        workers: processes; 0 draws in this one.
        skip_bad: take the next episode in place of one with broken files.
        pin: put the batches into memory that a GPU copies from.

    Raises:
        InputError: an episode's files are broken, and `skip_bad` is not set or nothing else is.
    """
    if workers:
        # A worker is a fork of this process, and would wait for ever for OpenCV's threads, which
        # it does not inherit: there must be none before the fork.
        _use_one_thread()
    loader: DataLoader[Any] = DataLoader(
        _Numbered(episodes, skip_bad),
        sampler=range(first * batch, (first + count) * batch),
        batch_size=batch,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_use_one_thread,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
    )
    for drawn in loader:
        if isinstance(drawn, InputError):
            raise drawn
        yield drawn


class _Numbered(Dataset[Any]):
    def __init__(self, episodes: Episodes, skip_bad: bool) -> None:
        self.episodes, self.skip_bad = episodes, skip_bad

    def __getitem__(self, index: int) -> tuple[Episode | None, list[dict[str, Any]]]:
        broken: list[dict[str, Any]] = []
        # A broken episode is replaced by one far ahead, which is the same in every run.
        for ahead in range(_MOST_BROKEN):
            try:
                return self.episodes[index + ahead * 10_000_019], broken
            except InputError as error:
                facts = ("summary", "expected", "found", "fix")
                broken.append({name: getattr(error, name) for name in facts})
                if not self.skip_bad:
                    break
        return None, broken


def _collate(
    drawn: list[tuple[Episode | None, list[dict[str, Any]]]],
) -> tuple[Batch, list[InputError]] | InputError:
    # Errors are passed as plain data: DataLoader would rebuild an exception from its text alone.
    errors = [
        InputError(
            facts["summary"], expected=facts["expected"], found=facts["found"], fix=facts["fix"]
        )
        for _, broken in drawn
        for facts in broken
    ]
    episodes = [episode for episode, _ in drawn if episode is not None]
    if len(episodes) < len(drawn):
        return errors[-1]
    return as_batch(episodes), errors


def _use_one_thread(worker: int = 0) -> None:
    """There is a worker for every core; OpenCV would start as many threads in each."""
    try:
        import cv2
    except ModuleNotFoundError:  # datasets on disk do without it
        return
    cv2.setNumThreads(1)
