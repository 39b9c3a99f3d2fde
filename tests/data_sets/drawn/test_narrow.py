"""Pictures so narrow that an object can hardly cover any of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2")
pytest.importorskip("skimage")

from hsnet_trt.data.drawn import procedural as procedural_module
from hsnet_trt.data.drawn.drawn_episode import best_view
from hsnet_trt.data.drawn.photo_cut import photo_cut
from hsnet_trt.data.drawn.procedural import procedural
from hsnet_trt.errors import InputError


@pytest.mark.parametrize("size", [(32, 2200), (2200, 32)])
def test_a_narrow_episode_is_not_drawn_without_end(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    drawn, draw = [], procedural_module.draw_scene

    def counted(*arguments: object) -> object:
        drawn.append(None)
        assert len(drawn) <= 120, "three views of one episode"
        return draw(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(procedural_module, "draw_scene", counted)
    for number in range(3):
        drawn.clear()
        episode = procedural(size=size, shots=2)[number]
        assert episode.query.shape == (*size, 3)
        assert episode.query_mask.any() and episode.support_masks.any((1, 2)).all()


def test_an_object_that_is_never_seen_is_named() -> None:
    calls = []

    def nothing() -> tuple[int, np.ndarray]:
        calls.append(None)
        return len(calls), np.zeros((9, 9), bool)

    with pytest.raises(InputError, match="no view of it could be drawn") as caught:
        best_view(nothing, "it", "choose another", tries=7)
    assert len(calls) == 7 and caught.value.fix == "choose another"


@pytest.mark.parametrize("shape", [(30_000, 30), (9, 9000)])
def test_narrow_photographs_are_cut_up(tmp_path: Path, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        noise = rng.integers(0, 256, (*shape, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.bmp")
    episode = photo_cut(tmp_path, size=(64, 64))[0]
    assert episode.query.shape == (64, 64, 3) and episode.query_mask.any()
