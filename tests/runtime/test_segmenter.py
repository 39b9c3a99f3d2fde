"""The embedded API from end to end, on a bundle that segments by colour."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import SIZE, reference
from helpers.pictures.scenes import RED, as_a_camera_gives_it, scene
from helpers.pictures.two_boxes import PLACE, QUERY, Shot, overlap
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hsnet_trt import FewShotSegmenter, Segmentation
from hsnet_trt.errors import BackendError, BundleError, InputError


def test_it_finds_the_object(segmenter: FewShotSegmenter, red_shot: Shot) -> None:
    image, mask = red_shot
    segmenter.set_support("red", [image], [mask])
    result = segmenter.segment(QUERY)
    assert isinstance(result, Segmentation)
    assert result.classes == segmenter.classes == ("red",)
    assert result.masks["red"].dtype == bool
    assert result.masks["red"].shape == result.labels.shape == (300, 200)
    assert result.scores["red"].dtype == np.float32
    assert 0 <= result.scores["red"].min() <= result.scores["red"].max() <= 1
    assert overlap(result.masks["red"], PLACE) > 0.6
    np.testing.assert_array_equal(result.labels, result.masks["red"].astype(np.uint8))
    assert set(result.timing) == {"preprocess", "features", "match", "postprocess"}
    assert all(value >= 0 for value in result.timing.values())
    assert "red" in repr(result) and len(repr(result)) < 200


def same(one: Segmentation, other: Segmentation) -> None:
    """To the bit."""
    np.testing.assert_array_equal(one.labels, other.labels)
    for name in other.classes:
        np.testing.assert_array_equal(one.masks[name], other.masks[name])
        np.testing.assert_array_equal(one.scores[name], other.scores[name])


@pytest.mark.parametrize("padding", [0, 7])
def test_what_opencv_and_cameras_hand_over(
    segmenter: FewShotSegmenter, red_shot: Shot, green_shot: Shot, padding: int
) -> None:
    """BGR, rows apart: the same answer by every call, and another one if nobody says it is BGR."""
    given = as_a_camera_gives_it(QUERY, padding)
    for name, (image, mask) in (("red", red_shot), ("green", green_shot)):
        segmenter.set_support(name, as_a_camera_gives_it(image, padding), mask, color="bgr")
    asked_in_bgr = segmenter.segment(given, color="bgr")
    for name, shot in (("red", red_shot), ("green", green_shot)):
        segmenter.set_support(name, *shot)
    expected = segmenter.segment(QUERY)
    assert expected.masks["red"].any() and expected.masks["green"].any()
    same(asked_in_bgr, expected)
    for result in segmenter.segment_batch([given, given], color="bgr"):
        same(result, expected)
    for frame in segmenter.stream([given, given], color="bgr", scores=True):
        assert frame.result is not None and frame.image is not None
        same(frame.result, expected)
        assert np.shares_memory(frame.image, given)
        np.testing.assert_array_equal(frame.image, QUERY)
    assert (segmenter.segment(given).labels != expected.labels).mean() > 0.02


def test_another_order_of_channels_is_refused_before_anything_is_done(
    segmenter: FewShotSegmenter, red_shot: Shot
) -> None:
    with pytest.raises(InputError, match="order of an array's channels"):
        segmenter.set_support("red", *red_shot, color="grb")
    assert segmenter.classes == ()
    segmenter.set_support("red", *red_shot)
    for call in (segmenter.segment, segmenter.segment_batch, segmenter.stream):
        with pytest.raises(InputError, match="order of an array's channels") as caught:
            call([QUERY] if call != segmenter.segment else QUERY, color="BGR")  # type: ignore[operator]
        assert '"bgr"' in str(caught.value.expected)


def test_classes_overlap_and_are_settled(
    segmenter: FewShotSegmenter, red_shot: Shot, green_shot: Shot
) -> None:
    segmenter.set_support("red", *red_shot)
    segmenter.set_support("green", *green_shot)
    result = segmenter.segment(QUERY)
    assert result.classes == ("red", "green")
    assert result.labels[150, 100] == 1
    assert result.labels[255, 100] == 2
    assert result.labels[10, 10] == 0
    for index, name in enumerate(result.classes):
        assert result.masks[name][result.labels == index + 1].all()
    # each class is what it is alone
    segmenter.remove_support("red")
    assert segmenter.classes == ("green",)
    alone = segmenter.segment(QUERY)
    np.testing.assert_array_equal(alone.masks["green"], result.masks["green"])
    np.testing.assert_allclose(alone.scores["green"], result.scores["green"], atol=1e-6)
    segmenter.clear()
    assert segmenter.classes == ()


def test_every_form_of_image_gives_the_same(
    segmenter: FewShotSegmenter, red_shot: Shot, tmp_path: Path
) -> None:
    image, mask = red_shot
    Image.fromarray(image).save(tmp_path / "s.png")
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "m.png")
    Image.fromarray(QUERY).save(tmp_path / "q.png")
    segmenter.set_support("red", image, mask)
    expected = segmenter.segment(QUERY)
    supports = [
        (tmp_path / "s.png", tmp_path / "m.png"),
        ([str(tmp_path / "s.png")], [str(tmp_path / "m.png")]),
        (Image.fromarray(image), Image.fromarray(mask)),
        (image[None], mask[None]),
        (image, mask[:, :, None]),
        (image, mask[None]),
        ((i for i in [image]), (m for m in [mask])),
    ]
    for images, masks in supports:
        segmenter.set_support("red", images, masks)
        for query in (QUERY, tmp_path / "q.png", str(tmp_path / "q.png"), Image.fromarray(QUERY)):
            found = segmenter.segment(query)
            np.testing.assert_array_equal(found.scores["red"], expected.scores["red"])


def test_batches_chunks_and_singles_agree(
    segmenter: FewShotSegmenter, red_shot: Shot, green_shot: Shot
) -> None:
    """Seven shots of two classes go through `match` in chunks of three pairs: 100 MB a pair."""
    assert segmenter._network.runner.limits.supports == 3
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (90 + 7 * i, 130, 3), dtype=np.uint8) for i in range(6)]
    masks = []
    for image in images:
        masks.append(np.zeros(image.shape[:2], bool))
        masks[-1][10:80, 10:110] = True
    segmenter.set_support("many", images, masks)
    segmenter.set_support("red", *red_shot)
    queries = [QUERY, QUERY[::2, ::3], QUERY[:, ::-1], red_shot[0], green_shot[0]]
    batch = segmenter.segment_batch(queries)
    assert [r.labels.shape for r in batch] == [q.shape[:2] for q in queries]
    for query, together in zip(queries, batch, strict=True):
        alone = segmenter.segment(query)
        for name in ("many", "red"):
            np.testing.assert_allclose(alone.scores[name], together.scores[name], atol=1e-6)
    assert segmenter.segment_batch([]) == []


def test_against_pytorch(segmenter: FewShotSegmenter) -> None:
    """Five shots at the network's size: the same votes as the authors' rule on PyTorch's logits."""
    import torch
    from torch.nn import functional

    rng = np.random.default_rng(7)
    supports = rng.integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)
    supports[:, 30:70, 40:90] //= 2
    masks = np.zeros((5, *SIZE), bool)
    masks[:, 30:70, 40:90] = True
    query = rng.integers(0, 128, (*SIZE, 3), dtype=np.uint8)
    segmenter.set_support("x", list(supports), list(masks))
    logits = torch.from_numpy(reference(query[None], supports, masks)["logits"][0])
    up = functional.interpolate(logits, SIZE, mode="bilinear", align_corners=True)
    votes = up.argmax(1).sum(0).numpy()
    expected = votes / max(1, votes.max()) >= 0.5
    result = segmenter.segment(query)
    assert (result.masks["x"] != expected).mean() < 1e-3
    np.testing.assert_allclose(result.scores["x"], up.softmax(1)[:, 1].mean(0), atol=1e-5)


def test_letterbox_finds_it_where_it_is(tmp_path: Path, red_shot: Shot) -> None:
    path = make_bundle(tmp_path / "b", resize="letterbox")
    with FewShotSegmenter.load(path, backend="onnxruntime") as segmenter:
        assert segmenter.resize == "letterbox"
        segmenter.set_support("red", *red_shot)
        place = (slice(20, 90), slice(400, 560))
        result = segmenter.segment(scene((110, 640), [(RED, place)]))
        assert overlap(result.masks["red"], place) > 0.5


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300))
def test_queries_of_any_size(height: int, width: int) -> None:
    segmenter = _shared()
    result = segmenter.segment(np.full((height, width, 3), RED, np.uint8))
    assert result.labels.shape == result.masks["red"].shape == (height, width)
    assert result.masks["red"].all()


_opened: list[FewShotSegmenter] = []


@pytest.fixture(autouse=True, scope="module")
def _share(bundle: Path):
    opened = FewShotSegmenter.load(bundle, backend="onnxruntime")
    mask = np.zeros(SIZE, bool)
    mask[20:90, 20:110] = True
    opened.set_support("red", scene(SIZE, [(RED, (slice(20, 90), slice(20, 110)))]), mask)
    _opened.append(opened)
    yield
    _opened.pop().close()


def _shared() -> FewShotSegmenter:
    return _opened[0]


def test_a_photograph_of_108_megapixels() -> None:
    picture = np.broadcast_to(np.array(RED, np.uint8), (9_000, 12_000, 3))
    result = _shared().segment(picture)
    assert result.masks["red"].shape == (9_000, 12_000)
    assert result.masks["red"].all()


def test_sizes(tmp_path: Path, red_shot: Shot) -> None:
    path = make_bundle(tmp_path / "b", sizes=((96, 128), (64, 64)))
    with FewShotSegmenter.load(path) as first, FewShotSegmenter.load(path, size=64) as second:
        assert (first.size, second.size) == ((96, 128), (64, 64))
    with pytest.raises(BundleError, match="size") as caught:
        FewShotSegmenter.load(path, size=400)
    assert "96x128 or 64x64" in str(caught.value.expected)


@pytest.mark.parametrize("size", ["400", (96,), 96.0, (96, 128, 3)], ids=repr)
def test_a_size_that_is_none(tmp_path: Path, size: Any) -> None:
    path = make_bundle(tmp_path / "b")
    with pytest.raises(InputError, match="size") as caught:
        FewShotSegmenter.load(path, size=size)
    assert caught.value.found == repr(size)


def test_a_path_in_place_of_a_network_names_load() -> None:
    with pytest.raises(InputError, match="load"):
        FewShotSegmenter("bundle/")  # type: ignore[arg-type]


def test_segmenting_before_a_support_was_set(segmenter: FewShotSegmenter, tmp_path: Path) -> None:
    for call, argument in (
        ("segment", QUERY),
        ("segment_batch", [QUERY]),
        ("save_supports", tmp_path / "x.npz"),
    ):
        with pytest.raises(InputError, match=f"^{call} was called before") as caught:
            getattr(segmenter, call)(argument)
        assert "set_support(name, images, masks)" in str(caught.value.fix)
    assert not list(tmp_path.iterdir())


def test_masks_are_refined_if_the_bundle_or_the_caller_says_so(
    tmp_path: Path, red_shot: Shot, green_shot: Shot
) -> None:
    """The same by every call; a copy does likewise."""
    plain, refined = (make_bundle(tmp_path / f"{r}", replace={"refine": r}) for r in (False, True))
    answers = []
    for path, refine in ((plain, None), (plain, False), (plain, True), (refined, None)):
        with FewShotSegmenter.load(path, "onnxruntime", refine=refine) as segmenter:
            assert segmenter.refine == (refine or path == refined)
            segmenter.set_support("red", [red_shot[0]] * 2, [red_shot[1]] * 2)
            segmenter.set_support("green", *green_shot)
            answers.append(segmenter.segment(QUERY))
            (streamed,) = segmenter.stream([QUERY], scores=True)
            assert streamed.result is not None
            same(streamed.result, answers[-1])
            same(segmenter.segment_batch([QUERY[::2], QUERY])[1], answers[-1])
            with copy.copy(segmenter) as twin:
                assert twin.refine == segmenter.refine
    same(answers[1], answers[0])
    same(answers[3], answers[2])
    for name, place in (("red", PLACE), ("green", (slice(220, 290), slice(20, 180)))):
        before, after = (overlap(answer.masks[name], place) for answer in answers[1:3])
        assert after > before, (name, before, after)


def test_logits_that_are_not_finite_are_an_error(
    segmenter: FewShotSegmenter, red_shot: Shot
) -> None:
    segmenter.set_support("red", *red_shot)
    segmenter._current.supports.classes["red"][0]["s2"].values[:] = np.inf
    with pytest.raises(BackendError, match="not finite"):
        segmenter.segment(QUERY)


def test_a_size_of_whole_floats_is_a_size(bundle: Path, red_shot: Shot) -> None:
    """As `NumPy` and YAML give them."""
    with FewShotSegmenter.load(bundle, size=(96.0, 128.0)) as segmenter:  # type: ignore[arg-type]
        assert [type(n) for n in segmenter.size] == [int, int]
        segmenter.set_support("red", *red_shot)
