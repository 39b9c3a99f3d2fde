"""Videos followed on a GPU that is not there: frames are matched first, and drawn later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fakes.gpu_segmenter import load
from helpers.pictures.scenes import RED, as_a_camera_gives_it, scene

pytest.importorskip("cv2")

from hsnet_trt import FewShotSegmenter, Memory
from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.matching.presence import Seen
from hsnet_trt.runtime.pictures.preprocess import Placement
from hsnet_trt.runtime.pictures.window import Window
from hsnet_trt.runtime.video import closer, confidence, steady

Shot = tuple[np.ndarray, np.ndarray]
LEVEL = 1 / 255 / 0.224  # what one grey level is once normalised


def pictures(count: int) -> list[np.ndarray]:
    found = []
    for k in range(count):
        picture = scene((96, 128), [(RED, (slice(20, 60), slice(20 + k, 60 + k)))])
        picture[70:90, 5:20] = (RED[0], 60, 60)
        found.append(picture)
    return found


@pytest.fixture(autouse=True)
def tiny_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits of the tiny network end at 1."""
    monkeypatch.setattr(confidence, "_SURE", 0.5)
    monkeypatch.setattr(steady, "_PEAK", 0.1)


def equal(one: Any, other: Any) -> None:
    assert one.classes == other.classes
    for name in one.classes:
        np.testing.assert_allclose(one.scores[name], other.scores[name], atol=3 * LEVEL)
        assert (one.masks[name] != other.masks[name]).mean() < 0.02
        assert one.presence[name] == pytest.approx(other.presence[name], abs=0.02)
    assert (one.labels != other.labels).mean() < 0.02


@pytest.mark.usefixtures("packaged_kernels")
@pytest.mark.parametrize(
    ("steadied", "refine"),
    [(False, False), (True, False), (False, True), (True, True)],
    ids=["memory", "memory and steady", "memory, refined", "memory and steady, refined"],
)
@pytest.mark.parametrize(
    "libraries",
    [{"pycuda": True}, {"pycuda": False, "bindings": True}],
    ids=["pycuda", "cuda-bindings with graphs"],
)
def test_a_video_is_followed_on_the_gpu_as_on_the_cpu(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    red_shot: Shot,
    green_shot: Shot,
    steadied: bool,
    refine: bool,
    libraries: dict[str, bool],
) -> None:
    here, driver, _ = load(tmp_path / "b", monkeypatch, refine=refine, **libraries)
    frames, memories = pictures(26), (Memory(3), Memory(3))
    windows = []
    choose = closer.Looks.choose

    def noted(looks: closer.Looks, whole: Placement) -> Window | None:
        windows.append(choose(looks, whole))
        return windows[-1]

    monkeypatch.setattr(closer.Looks, "choose", noted)
    there = FewShotSegmenter.load(tmp_path / "b", backend="onnxruntime", refine=refine)
    with here, there:
        streams = []
        for segmenter, memory in zip((here, there), memories, strict=True):
            segmenter.set_support("red", *red_shot)
            streams.append(segmenter.stream(frames, memory=memory, steady=steadied, scores=True))
        for number, (one, other) in enumerate(zip(*streams, strict=True)):
            assert one.result is not None and other.result is not None, one.error
            equal(one.result, other.result)
            if number == 12:
                here.set_support("green", *green_shot)
                there.set_support("green", *green_shot)
        assert memories[0].frames("red") == memories[1].frames("red") != ()
        assert any(windows) == steadied and windows[::2] == windows[1::2]
        assert one.result.classes == ("red", "green")
        assert set(one.result.timing) == {"preprocess", "features", "match", "postprocess"}
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
@pytest.mark.parametrize("refine", [False, True])
def test_nothing_is_allocated_once_the_memory_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot, refine: bool
) -> None:
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch, pycuda=True, refine=refine)
    memory = Memory(2)
    # A GPU keeps tables for each size of windows, of which there are few: here there is one, which
    # the box fits from the beginning.
    monkeypatch.setattr(closer, "_SIDES", (0.9,))
    monkeypatch.setattr(closer, "_ROOM", 1.1)
    windows, choose = [], closer.Looks.choose

    def noted(looks: closer.Looks, whole: Placement) -> Window | None:
        windows.append(choose(looks, whole))
        return windows[-1]

    monkeypatch.setattr(closer.Looks, "choose", noted)
    with segmenter:
        segmenter.set_support("red", *red_shot)
        stream = segmenter.stream(pictures(60), memory=memory, steady=True, color="rgb")
        for _ in range(20):
            next(stream)
        assert len(memory) == 2
        # From here on nothing is remembered: the same three sets are matched in turns.
        monkeypatch.setattr(confidence, "_SURE", 9.0)
        for _ in range(4):
            next(stream)
        before, seen = driver.allocations, len(windows)
        assert any(windows[:seen])
        for _ in range(30):
            next(stream)
        assert driver.allocations == before and any(windows[seen:])
        stream.close()
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("bgr", [False, True])
def test_features_are_those_of_the_frame_whatever_ran_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot, bgr: bool, refine: bool
) -> None:
    """And so is what its masks are refined by."""
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch, pycuda=True, refine=refine)
    with segmenter:
        segmenter.set_support("red", *red_shot)
        supports = segmenter._current.snapshot("test")
        pipeline = segmenter._network.pipeline
        picture = pictures(1)[0]
        given = as_a_camera_gives_it(picture)[:, :, ::-1] if bgr else picture
        matched = pipeline.read(given, "it", "rgb").match(supports)  # type: ignore[attr-defined]
        at_once = matched.features
        segmenter.segment(255 - picture)
        again = matched.features
        segmenter.set_support("other", *red_shot)
        once_more = matched.features
        for name in ("f2", "f3", "f4"):
            np.testing.assert_array_equal(at_once[name], again[name])
            np.testing.assert_array_equal(at_once[name], once_more[name])
        expected = segmenter.segment(picture).scores["red"]
        drawn = matched.draw(matched.logits[0], {"red": 1}, Seen({"red": 0.5}, 0.4), scores=True)
        assert drawn.present == {"red": True}
        np.testing.assert_allclose(drawn.scores["red"], expected, atol=1e-6)
        part = Window(11, 13, 60, 80)
        alone = pipeline.read(part.of(given), "it", "rgb").match(supports)  # type: ignore[attr-defined]
        expected = alone.features
        alone.abandon()
        left = pipeline.read(given, "it", "rgb").match(supports, part)  # type: ignore[attr-defined]
        for _ in range(2):
            for name in ("f2", "f3", "f4"):
                np.testing.assert_array_equal(left.features[name], expected[name])
            segmenter.segment(255 - picture)
        left.abandon()
    with pytest.raises(BackendError, match="closed"):
        _ = left.features
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
def test_logits_that_are_not_finite_are_an_error_and_the_slot_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot
) -> None:
    segmenter, _, _ = load(tmp_path / "b", monkeypatch, pycuda=True)
    with segmenter:
        image, mask = red_shot
        segmenter.set_support("red", image, mask)
        for shot in segmenter._current.supports.classes["red"]:
            shot["s2"].values[:] = np.nan
        stream = segmenter.stream(pictures(3), steady=True)
        found = list(stream)
        assert len(found) == 3
        assert all("not finite" in str(frame.error) for frame in found)
