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


@pytest.mark.parametrize(
    "window", [Window(40, 60, 120, 160), Window(0, 60, 72, 96), Window(168, 224, 72, 96)]
)
def test_weights_rise_from_the_edges_that_are_not_the_frames(window: Window) -> None:
    closer = place((window.height, window.width), NETWORK, "stretch")
    view = View(window, closer, place(SIZE, NETWORK, "stretch"))
    counts = view.spread(np.zeros((1, *DECODER), np.float32))[1]
    slow = np.zeros(DECODER)
    for place_ in np.ndindex(*DECODER):
        distances, inside = [6.0], True
        for position, n, side, start, length in zip(
            place_, DECODER, SIZE, (window.top, window.left), (window.height, window.width),
            strict=True,
        ):  # fmt: skip
            at = (position / (n - 1) * (side - 1) - start) / (length - 1) * (n - 1)
            inside &= -1e-3 <= at <= n - 1 + 1e-3
            distances += [at] * (start > 0) + [n - 1 - at] * (start + length < side)
        slow[place_] = max(min(distances) / 6, 0.1) if inside else 0
    np.testing.assert_allclose(counts, slow, atol=1e-4)


def test_planes_are_smoothed_only_where_they_get_much_smaller() -> None:
    whole = place(SIZE, NETWORK, "stretch")
    checks = np.where(np.add.outer(*map(np.arange, DECODER)) % 2, 4, -4)[None].astype(np.float32)
    as_it_is, _ = View(Window(0, 0, *SIZE), whole, whole).spread(checks)
    np.testing.assert_allclose(as_it_is, checks, atol=1e-3)
    third = Window(80, 100, 72, 96)
    closer = place((third.height, third.width), NETWORK, "stretch")
    found, counts = View(third, closer, whole).spread(checks)
    assert np.abs(found[0, counts == 1]).max() < 0.2  # it was 4, every second of 3.3 positions


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


def test_a_window_is_centred_on_its_part_and_of_the_next_larger_side() -> None:
    """Rows 8 to 15 of 64 are 30.3 to 56.9 of the pixels 0 to 239, and their middle is 43.6."""
    whole = place(SIZE, NETWORK, "stretch")
    for box, expected in {
        (8, 16, 8, 16): Window(8, 10, 72, 96),  # 1.6 x 7/63 is 0.18: the least side is 0.3
        (20, 40, 24, 34): Window(43, 53, 137, 182),  # 1.6 x 19/63 is 0.48: 0.57
        (16, 48, 24, 34): Window(14, 3, 211, 282),  # 1.6 x 31/63 is 0.79: 0.88
    }.items():
        looks = Looks()
        looks.choose(whole)
        looks.follow([shown(box)])
        assert looks.choose(whole) == expected
    looks.follow([shown((3, 5, 3, 5))])
    assert looks.choose(whole) is not None
    looks.follow([shown((3, 4, 3, 6))])
    assert looks.choose(whole) is None, "three positions"
