"""Windows of photographs: about an object, of the photograph's proportions, inside it."""

from __future__ import annotations

import numpy as np
import pytest

from hsnet_trt.runtime.pictures.window import Window, crop_about


def marked(top: int, bottom: int, left: int, right: int, size=(120, 200)) -> np.ndarray:
    mask = np.zeros(size, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def test_a_crop_is_about_the_object_and_as_the_photograph_is() -> None:
    mask = marked(40, 60, 100, 120)
    window = crop_about(mask, 1.5)
    # 20 of 120 rows are more than 20 of 200 columns: a quarter of the photograph.
    assert window == Window(35, 85, 30, 50)
    np.testing.assert_array_equal(window.of(mask), mask[35:65, 85:135])
    assert window.of(np.zeros((120, 200, 3))).shape == (30, 50, 3)


@pytest.mark.parametrize(
    "box", [(0, 10, 0, 10), (110, 120, 190, 200), (0, 120, 0, 3), (5, 6, 7, 8), (0, 120, 0, 200)]
)
def test_a_crop_is_inside_and_holds_the_whole_object(box: tuple[int, int, int, int]) -> None:
    mask = marked(*box)
    window = crop_about(mask, 1.5)
    assert 0 <= window.top <= window.top + window.height <= 120
    assert 0 <= window.left <= window.left + window.width <= 200
    assert window.of(mask).sum() == mask.sum()
    assert window.height / 120 == pytest.approx(window.width / 200, abs=0.01)


def test_of_nothing_it_is_everything() -> None:
    assert crop_about(np.zeros((7, 9), np.bool_), 1.5) == Window(0, 0, 7, 9)
