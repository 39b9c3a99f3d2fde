"""How like its objects a query is, against float64 loops; and what counts as there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.pictures.scenes import RED, scene

from hsnet_trt import FewShotSegmenter
from hsnet_trt.runtime.matching.packing import compress
from hsnet_trt.runtime.matching.presence import (
    objects_in,
    objects_of,
    presence,
    score_queries,
    together,
)

Shot = tuple[np.ndarray, np.ndarray]


def encoded(rng: np.random.Generator, shots: int, *, contrast: bool) -> dict[str, np.ndarray]:
    """Supports whose masks leave a third of the positions; the last one's leave none at level 4."""
    made = {}
    for level, positions in (("s2", 30), ("s3", 20), ("s4", 12)):
        dense = rng.standard_normal((shots, 2, 5, positions)).astype(np.float32)
        dense /= np.linalg.norm(dense, axis=2, keepdims=True)
        for shot in dense:
            shot[:, :, rng.random(positions) < 2 / 3] = 0
            shot[:, :, 3] = 0.2
        made[level] = dense
    made["s4"][-1] = 0
    if contrast:
        made["c3"] = rng.standard_normal((shots, 1, 7, 1)).astype(np.float32)
        made["c4"] = (0.3 * rng.standard_normal((shots, 1, 5, 1))).astype(np.float32)
        made["c4"][-1] = 0
    return made


def slowly(level4: np.ndarray, supports: dict[str, np.ndarray]) -> np.ndarray:
    """The score of each shot in each query, position by position."""

    def best(query: np.ndarray, vector: np.ndarray) -> float:
        norms = [np.linalg.norm(column) for column in query.T]
        return max(0.0, *(q @ vector / n for q, n in zip(query.T, norms, strict=True) if n))

    found = np.zeros((len(level4), len(supports["s4"])))
    for b, query in enumerate(level4[:, -1].astype(np.float64)):
        for s, shot in enumerate(supports["s4"].astype(np.float64)):
            matches = [best(query, column) for column in shot[-1].T if column.any()]
            alike = sum(matches) / len(matches) if matches else 0
            if "c4" in supports:
                more = best(query, supports["c4"][s, -1, :, 0].astype(np.float64))
                alike = (alike + min(more, 1)) / 2
            found[b, s] = alike
    return found


@pytest.mark.parametrize("contrast", [False, True], ids=["the paper's", "contrast"])
@pytest.mark.parametrize(("dtype", "apart"), [(np.float32, 2e-5), (np.float16, 2e-3)])
def test_it_is_the_mean_of_best_matches(dtype: type, apart: float, contrast: bool) -> None:
    rng = np.random.default_rng(3)
    supports = encoded(rng, 4, contrast=contrast)
    level4 = (3 * rng.standard_normal((2, 3, 5, 12))).astype(dtype)
    level4[0, :, :, 4] = 0  # the margin of a letterbox
    objects, dense = objects_of(compress(supports)), objects_in(supports)
    np.testing.assert_array_equal(dense.vectors, objects.vectors)
    np.testing.assert_array_equal(dense.counts, objects.counts)
    assert len(objects.vectors) == objects.counts.sum() + 4 * contrast
    assert (objects.counts > 0).tolist() == [True, True, True, False]
    found = score_queries(level4, objects)
    np.testing.assert_allclose(found, slowly(level4, supports), atol=apart)
    assert found.dtype == np.float32 and (found >= 0).all() and (found <= 1).all()


@pytest.mark.parametrize("contrast", [False, True])
def test_parts_are_put_together(contrast: bool) -> None:
    supports = encoded(np.random.default_rng(3), 5, contrast=contrast)
    parts = [
        objects_in({n: a[part] for n, a in supports.items()}) for part in np.split(range(5), [2])
    ]
    whole, found = objects_in(supports), together(parts)
    np.testing.assert_array_equal(found.vectors, whole.vectors)
    np.testing.assert_array_equal(found.counts, whole.counts)


def test_a_shot_without_an_object_or_a_contrast_has_a_score() -> None:
    supports = {"s4": np.zeros((1, 1, 5, 4), np.float32)}
    objects = objects_in(supports)
    assert objects.vectors.shape == (0, 5)
    assert score_queries(np.ones((1, 1, 5, 4), np.float32), objects).tolist() == [[0]]


def test_a_class_has_the_mean_of_its_shots_that_say_something() -> None:
    counts = np.array([3, 0, 1, 2, 0])
    scores = presence(np.array([0.5, 0.1, 0.9, 0.3, 0.2], np.float32), counts, [2, 2, 1])
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
