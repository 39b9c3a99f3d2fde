"""Episodes as batches of tensors, drawn by worker processes in a fixed order."""

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

_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, which HSNet's images are normalised by
_STD = (0.229, 0.224, 0.225)
_MOST_BROKEN = 100  # broken episodes in a row before giving up


@dataclass(frozen=True)
class Batch:
    """B episodes with one support each.

    Attributes:
        images: uint8 [2B,3,H,W] RGB: the B queries, then the B supports.
        masks: bool [2B,H,W], in the same order.
    """

    images: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.images) // 2

    def to(self, device: torch.device) -> Batch:
        """The batch on another device; asynchronously from pinned memory."""
        return Batch(
            self.images.to(device, non_blocking=True), self.masks.to(device, non_blocking=True)
        )

    def pin_memory(self) -> Batch:
        """The batch in pinned memory; DataLoader calls this."""
        return Batch(self.images.pin_memory(), self.masks.pin_memory())


def normalise(images: Tensor) -> Tensor:
    """RGB [N,3,H,W] in 0..255 -> float32 normalised by ImageNet's mean and standard deviation."""
    mean = torch.tensor(_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(_STD, device=images.device).view(3, 1, 1)
    return (images.float() / 255 - mean) / std


def as_batch(episodes: Sequence[Episode]) -> Batch:
    """Stack episodes of equal size, with the first support of each."""
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
    """Yield `count` batches, starting with number `first`, each with the errors of broken episodes.

    Batch i holds the episodes from i * batch on, for any number of workers and any first batch, so
    a resumed run sees the same episodes as an uninterrupted one.

    Args:
        episodes: an endless sequence.
        first: number of the first batch.
        count: number of batches.
        batch: episodes per batch.
        workers: worker processes; 0 draws in this process.
        skip_bad: replace an episode with broken files by another one.
        pin: put the batches into pinned memory, for copies to a GPU.

    Raises:
        InputError: an episode's files are broken, and `skip_bad` is False or the next 99
            replacements are broken, too.
    """
    if workers:
        # A worker is a fork of this process. It would wait for ever for OpenCV's threads, which it
        # does not inherit, so there must be none before the fork.
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
        # Broken episodes are replaced by episodes far ahead: the same ones in every run.
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
    # Errors travel as plain data: DataLoader would rebuild an exception from its text alone.
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
    """Limit OpenCV to one thread: each core has a worker, and each would start as many threads."""
    try:
        import cv2
    except ModuleNotFoundError:  # datasets on disk do not need it
        return
    cv2.setNumThreads(1)
