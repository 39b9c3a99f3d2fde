"""Episodes as one picture, to be judged by eye: one row each, masks as coloured outlines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image as PILImage

from hsnet_trt.data.episodes.episode import Episode, Image, Mask
from hsnet_trt.data.episodes.files import resize_image, resize_mask

TRUTH = (40, 220, 60)
ANSWER = (255, 70, 40)


def outlined(image: Image, mask: Mask, colour: tuple[int, int, int] = TRUTH) -> Image:
    """Tint a mask bool [H, W] on an image uint8 [H, W, 3], and draw its border in `colour`."""
    drawn = image.astype(np.float32)
    drawn[mask] = drawn[mask] * 0.75 + np.array(colour, np.float32) * 0.25
    padded = np.pad(mask, 1, mode="edge")
    same = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    drawn[mask & ~same] = colour
    return drawn.astype(np.uint8)


def episode_sheet(
    episodes: Sequence[Episode], answers: Sequence[Mask] | None = None, *, cell: int = 160
) -> PILImage.Image:
    """Draw one row per episode: the supports, the query with its true mask, then with the answer.

    Args:
        episodes: all with the same number of shots.
        answers: bool [H, W] for each episode, of any size; None leaves that column out.
        cell: side of one picture, in pixels.
    """
    rows = []
    for number, episode in enumerate(episodes):
        shown = [
            outlined(image, mask)
            for image, mask in zip(episode.supports, episode.support_masks, strict=True)
        ]
        size = (episode.query.shape[0], episode.query.shape[1])
        shown.append(outlined(episode.query, resize_mask(episode.query_mask, size)))
        if answers is not None:
            shown.append(outlined(episode.query, resize_mask(answers[number], size), ANSWER))
        rows.append(np.concatenate([resize_image(image, (cell, cell)) for image in shown], axis=1))
    return PILImage.fromarray(np.concatenate(rows, axis=0))
