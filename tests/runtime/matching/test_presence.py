"""How like its objects a query is, against float64 loops; and what counts as there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_bundle import RED, make_bundle, scene

from hsnet_trt import FewShotSegmenter
from hsnet_trt.runtime.matching.packing import compress
from hsnet_trt.runtime.matching.presence import likeness, objects_in, objects_of, presence

Shot = tuple[np.ndarray, np.ndarray]


def encoded(rng: np.random.Generator, shots: int) -> dict[str, np.ndarray]:
    """Supports whose masks leave a third of the positions; the last one's leave none at level 4."""
    made = {}
    for level, positions in (("s2", 30), ("s3", 20), ("s4", 12)):
        dense = rng.standard_normal((shots, 2, 5, positions)).astype(np.float32)
        dense /= np.linalg.norm(dense, axis=2, keepdims=True)
        dense[:, :, :, rng.random(positions) < 2 / 3] = 0
        made[level] = dense
    made["s4"][-1] = 0
    return made


def slowly(level4: np.ndarray, s4: np.ndarray) -> np.ndarray:
    """The best cosine of each query with each shot's mean direction, position by position."""
    found = np.zeros((len(level4), len(s4)))
    for b, query in enumerate(level4.astype(np.float64)):
        for s, shot in enumerate(s4.astype(np.float64)):
            mean = shot[-1].sum(axis=1)
            for column in query[-1].T:
                norms = np.linalg.norm(column) * np.linalg.norm(mean)
                if norms:
                    found[b, s] = max(found[b, s], column @ mean / norms)
    return found


@pytest.mark.parametrize(("dtype", "apart"), [(np.float32, 2e-5), (np.float16, 2e-3)])
def test_it_is_the_best_cosine_with_the_mean_object(dtype: type, apart: float) -> None:
    rng = np.random.default_rng(3)
    supports = encoded(rng, 4)
    level4 = (3 * rng.standard_normal((2, 3, 5, 12))).astype(dtype)
    level4[0, :, :, 4] = 0  # the margin of a letterbox
    objects = objects_of(compress(supports))
    np.testing.assert_allclose(objects_in(supports["s4"]), objects, atol=1e-6)
    assert objects.shape == (4, 5) and not objects[3].any()
    np.testing.assert_allclose(np.linalg.norm(objects[:3], axis=1), 1, atol=1e-6)
    found = likeness(level4, objects)
    np.testing.assert_allclose(found, slowly(level4, supports["s4"]), atol=apart)
    assert found.dtype == np.float32 and (found >= 0).all() and (found <= 1).all()


def test_a_class_has_the_mean_of_its_shots_that_say_something() -> None:
    objects = np.ones((5, 3), np.float32)
    objects[[1, 4]] = 0
    scores = presence(np.array([0.5, 0.1, 0.9, 0.3, 0.2], np.float32), objects, [2, 2, 1])
    assert scores == pytest.approx([0.5, 0.6, 1.0])  # of the last class nothing is known


def test_the_bundle_says_from_where_a_class_counts_as_present(
    tmp_path: Path, red_shot: Shot, green_shot: Shot
) -> None:
    """The tiny network's features are colours, so a picture of one is like objects of that one."""
    path = make_bundle(tmp_path / "b", replace={"present_from": 0.95})
    query = scene((128, 192), [(RED, (slice(0, 128), slice(0, 192)))])
    with FewShotSegmenter.load(path) as segmenter:
        segmenter.set_support("red", *red_shot)
        segmenter.set_support("green", [green_shot[0]] * 2, [green_shot[1]] * 2)
        found = segmenter.segment(query)
        assert found.presence["red"] > 0.95 > found.presence["green"]
        assert found.present == {"red": True, "green": False}
        (again,) = segmenter.segment_batch([query])
        assert again.presence == pytest.approx(found.presence)
    with FewShotSegmenter.load(make_bundle(tmp_path / "plain")) as segmenter:
        segmenter.set_support("green", *green_shot)
        assert segmenter.segment(query).present == {"green": True}  # nobody calibrated it
