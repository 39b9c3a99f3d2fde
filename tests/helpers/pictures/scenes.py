"""Grey pictures with coloured boxes, also as a camera gives them."""

from __future__ import annotations

import numpy as np

RED, GREEN, GREY = (220, 30, 30), (30, 200, 40), (128, 128, 128)


def scene(
    size: tuple[int, int], boxes: list[tuple[tuple[int, int, int], tuple[slice, slice]]]
) -> np.ndarray:
    """A grey picture with coloured boxes."""
    picture = np.full((*size, 3), GREY, np.uint8)
    for colour, place in boxes:
        picture[place] = colour
    return picture


def as_a_camera_gives_it(rgb: np.ndarray, padding: int = 0) -> np.ndarray:
    """A view of BGR pixels, the rows so many bytes apart from each other."""
    height, width = rgb.shape[:2]
    memory = np.full((height, 3 * width + padding), 99, np.uint8)
    view = memory[:, : 3 * width].reshape(height, width, 3)
    view[...] = rgb[:, :, ::-1]
    assert np.shares_memory(view, memory)
    return view
