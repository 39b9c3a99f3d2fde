"""Drawn views that show enough of the object, and an episode made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from hsnet_trt.data.episodes.episode import Episode, Image, Mask
from hsnet_trt.errors import InputError

_LEAST = 0.015  # least share of the picture that the object covers

Picture = TypeVar("Picture")


def best_view(
    draw: Callable[[], tuple[Picture, Mask]], what: str, fix: str, tries: int = 12
) -> tuple[Picture, Mask]:
    """The first of some pictures in which the object covers enough; else the one with most of it.

    Args:
        draw: draws another picture and the object's mask at each call.
        what: name of the object, for the error.
        fix: what mends it, for the error.
        tries: how many pictures are drawn at most.

    Raises:
        InputError: the object is visible in none of them.
    """
    best, mask = draw()
    for _ in range(tries - 1):
        if mask.mean() >= _LEAST:
            break
        picture, seen = draw()
        if seen.sum() > mask.sum():
            best, mask = picture, seen
    if not mask.any():
        raise InputError(f"no view of {what} could be drawn", fix=fix)
    return best, mask


def drawn_episode(
    query: tuple[Image, Mask],
    supports: Sequence[tuple[Image, Mask]],
    class_id: int,
    class_name: str,
    name: str,
) -> Episode:
    """Make an episode of views.

    Args:
        query: its picture, uint8 [H, W, 3], and the object's mask, bool [H, W].
        supports: K such pairs of the same size.
        class_id: see `Episode`.
        class_name: see `Episode`.
        name: prefix of the pictures' names.
    """
    image, mask = query
    return Episode(
        query=image,
        query_mask=mask,
        supports=np.stack([picture for picture, _ in supports]),
        support_masks=np.stack([seen for _, seen in supports]),
        class_id=class_id,
        class_name=class_name,
        ignore=None,
        query_name=f"{name}/query",
        support_names=tuple(f"{name}/support{k}" for k in range(len(supports))),
        original_size=(mask.shape[0], mask.shape[1]),
    )
