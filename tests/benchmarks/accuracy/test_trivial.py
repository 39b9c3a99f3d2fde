"""The trivial answers that a network is compared with, plain and refined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from PIL import Image

from hsnet_trt.benchmarks.accuracy.answers import BundleNetwork, TorchNetwork
from hsnet_trt.benchmarks.accuracy.trivial import (
    Trivial,
    _refined_too,
    foreground_minus_background,
    trivial_answers,
)
from hsnet_trt.data.episodes.episode import Episode
from hsnet_trt.data.sources import Source
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.runtime.bundle import Bundle

SIZE = (64, 64)

pytestmark = pytest.mark.xdist_group("benchmarks")  # one worker exports their bundle


def test_prototypes_find_what_points_the_same_way(blobs: Path) -> None:
    episode = next(Source(("folder",), root=blobs, size=SIZE, shots=2).open("test").take(1))
    truth = np.zeros((8, 8), np.bool_)
    truth[2:5, 3:8] = True
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=(2, 16))
    cells = [
        truth,
        *(np.asarray(Image.fromarray(m).resize((8, 8), 0)) for m in episode.support_masks),
    ]
    last = np.stack([np.where(c.ravel(), inside[:, None], outside[:, None]) for c in cells])
    features = {"f2": np.stack([rng.normal(size=last.shape), last], axis=1).astype(np.float32)}
    answer = foreground_minus_background(features, ["f2"], episode)
    assert answer.shape == SIZE
    centres = answer[4::8, 4::8]
    np.testing.assert_array_equal(centres, truth)


def test_the_surer_level_decides_where_two_disagree(blobs: Path) -> None:
    """At 4 x 4, all objects; at 8 x 8, by a tenth of that angle, nothing: the mean says object."""
    episode = next(Source(("folder",), root=blobs, size=SIZE).open("test").take(1))
    mask = np.asarray(Image.fromarray(episode.support_masks[0]).resize((8, 8), 0)).ravel()

    def last(sure: float, grid: int, at: float) -> np.ndarray:
        """Features [2,1,2,n] of a query all at one angle, and a support by its mask."""
        small = mask if grid == 8 else mask.reshape(8, 8)[::2, ::2].ravel()
        support = np.where(small, sure, -sure)
        angles = np.stack([np.full(grid * grid, at * sure), support])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)[:, None].astype(np.float32)

    features = {"f3": last(0.1, 8, -1.0), "f4": last(1.0, 4, 1.0)}
    assert not foreground_minus_background(features, ["f3"], episode).any()
    assert foreground_minus_background(features, ["f4"], episode).all()
    assert foreground_minus_background(features, ["f3", "f4"], episode).all()


def test_features_are_taken_once_for_all_prototypes(model: HSNet, blobs: Path) -> None:
    episode = next(Source(("folder",), root=blobs, size=(64, 96)).open("test").take(1))
    network = TorchNetwork(model)
    taken: list[int] = []
    features = network.features

    def counted(images: np.ndarray) -> dict[str, np.ndarray]:
        taken.append(len(images))
        return features(images)

    network.features = counted  # type: ignore[method-assign]
    for trivial in trivial_answers(network):
        answer = trivial.answer(episode)
        assert answer.shape == (64, 96) and answer.dtype == np.bool_
    assert taken == [2]


@pytest.mark.parametrize("contrast", [0.0, 2.0])
def test_a_bundle_gives_prototypes_its_features_without_the_rows_ends(
    contrast: float, blobs: Path, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "b", contrast=contrast)
    size = Bundle.open(bundle).manifest.sizes[0]
    episode = next(Source(("folder",), root=blobs, size=size).open("test").take(1))
    network = BundleNetwork(bundle, "onnxruntime")
    grids = Bundle.open(bundle).manifest.graphs[0].grids
    features = network.features(episode.query[None])
    assert [features[name].shape[3] for name in ("f2", "f3", "f4")] == [h * w for h, w in grids]
    assert all(trivial.answer(episode).shape == size for trivial in trivial_answers(network))
    network.close()


def test_trivial_answers_are_refined_where_the_networks_are(model: HSNet) -> None:
    """A bright square on grey, whose trivial answer lies two pixels beside it."""
    network = TorchNetwork(model)
    plain = [trivial.name for trivial in trivial_answers(network)]
    network.refine = True
    trivials = {trivial.name: trivial for trivial in trivial_answers(network)}
    assert [*trivials][: len(plain)] == plain
    assert [*trivials][len(plain) :] == [f"{name}, refined" for name in plain[1:]]
    picture = np.full((160, 160, 3), 90, np.uint8)
    picture[40:120, 40:120] = 250
    truth, beside = (np.zeros((160, 160), np.bool_) for _ in range(2))
    truth[40:120, 40:120] = beside[42:122, 42:122] = True
    episode = Episode(
        query=picture,
        query_mask=truth,
        supports=picture[None],
        support_masks=beside[None],
        class_id=0,
        class_name="square",
        ignore=None,
        query_name="q",
        support_names=("s",),
        original_size=(160, 160),
    )
    refined = _refined_too(Trivial("beside", lambda e: beside))
    assert refined.name == "beside, refined"
    found = refined.answer(episode)
    assert found.shape == truth.shape and found.dtype == np.bool_
    assert 2 * (found != truth).sum() < (beside != truth).sum()
