"""An episode of views that were drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hsnet_trt.data.episodes.episode import Episode, Image, Mask

View = tuple[Image, Mask]


def drawn_episode(
    query: View, supports: Sequence[View], class_id: int, class_name: str, name: str
) -> Episode:
    """Put views together.

    Args:
        query: uint8 [H, W, 3], and bool [H, W]: where the object is in it.
        supports: the same, K of them.
        class_id: see `Episode`.
        class_name: see `Episode`.
        name: what the names of its pictures begin with.
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
