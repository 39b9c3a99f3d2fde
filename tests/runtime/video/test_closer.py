"""Closer looks: where they are, and that what they find is put where it was."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2")

from hsnet_trt.runtime.pictures.postprocess import segment_logits
from hsnet_trt.runtime.pictures.preprocess import place
from hsnet_trt.runtime.pictures.window import Window
from hsnet_trt.runtime.video.closer import Looks, View

SIZE, NETWORK, DECODER = (240, 320), (256, 256), (64, 64)


def ramp(placement, start: tuple[int, int]) -> np.ndarray:
    """A plane [2,h,w] whose values are the row and the column of the frame's pixel there."""
    found = []
    for axis, n in enumerate(DECODER):
        network = np.arange(n) / (n - 1) * (placement.network[axis] - 1)
        inside = network - (placement.top, placement.left)[axis]
        scale = (placement.source[axis] - 1) / (placement.content[axis] - 1)
        found.append(inside * scale + start[axis])
    rows, columns = np.meshgrid(*found, indexing="ij")
    return np.stack([rows, columns]).astype(np.float32)


@pytest.mark.parametrize("policy", ["stretch", "letterbox"])
@pytest.mark.parametrize(
    "window", [Window(40, 60, 120, 160), Window(0, 0, 200, 267), Window(150, 220, 72, 96)]
)
def test_what_is_found_is_put_where_it_was(policy: str, window: Window) -> None:
    whole = place(SIZE, NETWORK, policy)
    closer = place((window.height, window.width), NETWORK, policy)
    found, counts = View(window, closer, whole).spread(ramp(closer, (window.top, window.left)))
    expected = ramp(whole, (0, 0))
    inside = counts > 0
    rows, columns = expected
    edge = 8  # pixels
    middle = (
        (rows > window.top + edge)
        & (rows < window.top + window.height - edge)
        & (columns > window.left + edge)
        & (columns < window.left + window.width - edge)
    )
    assert middle.any() and inside[middle].all()
    np.testing.assert_allclose(found[:, middle], expected[:, middle], atol=0.5)
    assert not inside[(rows < window.top - edge) | (columns < window.left - edge)].any()
    assert counts.max() <= 1 and (window.top > 0 or counts[0].max() == 1 or policy == "letterbox")


def shown(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    plane = np.full(DECODER, -3, np.float32)
    for top, bottom, left, right in boxes:
        plane[top:bottom, left:right] = 2
    return plane


def test_each_part_has_its_turn_and_the_whole_frame_every_fourth() -> None:
    whole, looks = place(SIZE, NETWORK, "stretch"), Looks()
    assert looks.choose(whole) is None
    boxes = ((8, 16, 8, 16), (40, 50, 40, 50))
    looks.follow([shown(boxes[0]), shown(boxes[1])])
    chosen = [looks.choose(whole) for _ in range(8)]
    assert [window is None for window in chosen] == [False, False, False, True] * 2
    for number, window in enumerate(window for window in chosen if window is not None):
        plane = shown(boxes[number % 2])
        logits = np.stack([np.zeros_like(plane), plane])[None]
        mask = segment_logits(logits, [1], whole)[0][0]
        assert window.of(mask).sum() == mask.sum()
        assert window.height / SIZE[0] == pytest.approx(window.width / SIZE[1], abs=0.01)
        assert window.height < 0.5 * SIZE[0]


def test_nothing_and_nearly_everything_are_not_looked_at_closer() -> None:
    whole, looks = place(SIZE, NETWORK, "stretch"), Looks()
    looks.choose(whole)
    for plane in (shown(), shown((2, 62, 2, 62)), shown((3, 4, 3, 4))):
        looks.follow([plane])
        assert looks.choose(whole) is None
        looks = Looks()
        looks.choose(whole)
    looks.follow([shown((8, 16, 8, 16))])
    looks.forget()
    assert looks.choose(whole) is None
