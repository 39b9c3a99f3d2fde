"""An episode made of drawn views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hsnet_trt.data.episodes.episode import Episode, Image, Mask


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
