"""Streams with a memory and with steadiness: what comes out, however fast, and for how long."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny_graphs import SIZE
from helpers.pictures.scenes import GREEN, RED, scene

pytest.importorskip("cv2")

from hsnet_trt import FewShotSegmenter, Memory
from hsnet_trt.errors import HSNetError
from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.matching.support_set import SupportSet
from hsnet_trt.runtime.pictures.guided_filter import refine
from hsnet_trt.runtime.pictures.postprocess import segment_logits
from hsnet_trt.runtime.pictures.preprocess import network_input, place
from hsnet_trt.runtime.video import confidence, motion, steady
from hsnet_trt.runtime.video.closer import View
from hsnet_trt.runtime.video.follower import Follower
from hsnet_trt.runtime.video.motion import shrink

Shot = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def segmenter(
    bundle: Path, red_shot: Shot, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FewShotSegmenter]:
    # The logits of the tiny network end at 1.
    monkeypatch.setattr(confidence, "_SURE", 0.5)
    monkeypatch.setattr(steady, "_PEAK", 0.1)
    with FewShotSegmenter.load(bundle, backend="onnxruntime") as loaded:
        loaded.set_support("red", *red_shot)
        yield loaded


def pictures(count: int) -> list[np.ndarray]:
    """A red box that moves and pales, before noise."""
    rng = np.random.default_rng(0)
    found = []
    for k in range(count):
        colour = np.clip(np.array(RED) + k * np.array((-2, 3, 2)), 0, 255)
        picture = scene((96, 128), [(colour, (slice(20, 60), slice(20 + k, 60 + k)))])
        noise = rng.integers(0, 12, picture.shape)
        found.append(np.clip(picture.astype(int) + noise, 0, 255).astype(np.uint8))
    return found


@pytest.mark.parametrize("refined", [False, True], ids=["", "refined"])
@pytest.mark.parametrize("steadied", [False, True], ids=["memory", "memory and steady"])
def test_frames_are_remembered_and_the_answers_do_not_depend_on_time(
    segmenter: FewShotSegmenter, steadied: bool, refined: bool
) -> None:
    segmenter._network.refine = refined
    frames = pictures(24)
    memory = Memory(3)
    streamed = list(segmenter.stream(iter(frames), memory=memory, steady=steadied, scores=True))
    assert 1 <= len(memory) <= 3 and memory.frames("red") != ()
    assert all(frame.error is None for frame in streamed)

    def one_by_one() -> Iterator[np.ndarray]:
        for frame in frames:
            yield frame
            segmenter.segment(frame)  # another user of the same network

    again = segmenter.stream(one_by_one(), memory=Memory(3), steady=steadied, scores=True)
    for one, other in zip(streamed, again, strict=True):
        assert one.result is not None and other.result is not None
        np.testing.assert_array_equal(one.result.labels, other.result.labels)
        np.testing.assert_array_equal(one.result.scores["red"], other.result.scores["red"])


def test_without_either_the_stream_is_as_it_was(segmenter: FewShotSegmenter) -> None:
    frames = pictures(3)
    for frame, picture in zip(segmenter.stream(frames, scores=True), frames, strict=True):
        assert frame.result is not None
        expected = segmenter.segment(picture)
        np.testing.assert_array_equal(frame.result.scores["red"], expected.scores["red"])


def test_a_remembered_shot_finds_what_the_given_one_does_not(
    segmenter: FewShotSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The box pales so far that it is not red any more; a memory knows the colours between."""
    frames = pictures(40)
    monkeypatch.setattr(confidence, "_SURE", 0.2)
    alone = [frame.result for frame in segmenter.stream(frames)]
    followed = [frame.result for frame in segmenter.stream(frames, memory=Memory(2))]
    areas = [[int(r.masks["red"].sum()) for r in rs if r is not None] for rs in (alone, followed)]
    assert areas[1][-1] >= areas[0][-1] and sum(areas[1]) > sum(areas[0])


def test_a_second_stream_goes_on_with_what_the_first_one_left(
    segmenter: FewShotSegmenter,
) -> None:
    memory = Memory(3)
    list(segmenter.stream(pictures(10), memory=memory))
    kept, seen = memory.frames("red"), memory.seen
    assert kept and seen == 10
    next(segmenter.stream(pictures(10), memory=memory))
    assert set(kept) <= set(memory.frames("red")) and memory.seen == 11


def test_a_cut_clears_the_memory(segmenter: FewShotSegmenter) -> None:
    memory = Memory(3)
    other = scene((96, 128), [((0, 0, 255), (slice(0, 96), slice(0, 128)))])
    stream = segmenter.stream([*pictures(8), other], memory=memory)
    for _ in range(8):
        next(stream)
    assert len(memory) > 0
    next(stream)
    assert len(memory) == 0


def test_supports_may_be_changed_meanwhile(
    segmenter: FewShotSegmenter, red_shot: Shot, green_shot: Shot
) -> None:
    memory = Memory(3)
    stream = segmenter.stream(pictures(24), memory=memory, steady=True)
    for _ in range(10):
        next(stream)
    segmenter.set_support("green", *green_shot)
    assert [next(stream).result.classes for _ in range(4)][-1] == ("red", "green")  # type: ignore[union-attr]
    assert memory.frames("red") != ()
    segmenter.remove_support("green")
    assert next(stream).result.classes == ("red",)  # type: ignore[union-attr]
    segmenter.set_support("red", *red_shot)
    next(stream)
    assert all(frame >= 14 for frame in memory.frames("red"))


@pytest.mark.parametrize("removed", [False, True], ids=["replaced", "removed and set"])
def test_a_class_that_is_set_again_is_answered_as_in_a_new_stream(
    segmenter: FewShotSegmenter, red_shot: Shot, green_shot: Shot, removed: bool
) -> None:
    """Nothing is left of the object that it was before: no mask, no presence."""
    boxes = [(RED, (slice(10, 50), slice(10, 50))), (GREEN, (slice(50, 90), slice(80, 120)))]
    picture = scene((96, 128), boxes)
    stream = segmenter.stream([picture] * 14, steady=True)
    before = [next(stream) for _ in range(13)][-1].result
    if removed:
        segmenter.remove_support("red")
    segmenter.set_support("red", *green_shot)
    after = next(stream).result
    fresh = next(segmenter.stream([picture], steady=True)).result
    assert before is not None and after is not None and fresh is not None
    assert before.masks["red"][30, 30] and not fresh.masks["red"][30, 30]
    np.testing.assert_array_equal(after.masks["red"], fresh.masks["red"])
    assert after.presence == fresh.presence


def test_steadied_masks_are_refined_by_the_whole_frame(
    bundle: Path, red_shot: Shot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever part of it the network was shown: its edges are better for that."""
    monkeypatch.setattr(steady, "_PEAK", 0.1)
    settle, settled, windows = Follower.settle, [], 0

    def noted(*given: object) -> np.ndarray:
        settled.append((settle(*given), given[-1]))  # type: ignore[arg-type]
        return settled[-1][0]

    monkeypatch.setattr(Follower, "settle", noted)
    preprocessing, overlaps = Preprocessing(), np.zeros((2, 20))
    frames = pictures(20)
    for refined in (False, True):
        settled.clear()
        with FewShotSegmenter.load(bundle, "onnxruntime", refine=refined) as segmenter:
            segmenter.set_support("red", *red_shot)
            found = list(segmenter.stream(frames, steady=True, scores=True))
        assert len(settled) == len(found)
        for number, (frame, (planes, view)) in enumerate(zip(found, settled, strict=True)):
            assert frame.result is not None
            windows += view is not None
            (picture,), (whole,) = network_input([frames[number]], SIZE, preprocessing)
            drawn = refine(planes, picture, preprocessing) if refined else planes
            _, (scores,), labels = segment_logits(drawn, [1], whole)
            np.testing.assert_allclose(frame.result.scores["red"], scores, atol=1e-6)
            truth = np.zeros(labels.shape, np.bool_)
            truth[20:60, 20 + number : 60 + number] = True
            mask = frame.result.masks["red"]
            overlaps[int(refined), number] = (mask & truth).sum() / (mask | truth).sum()
    assert windows > 20
    assert (overlaps[1] > overlaps[0]).mean() > 0.8, overlaps


def test_a_frame_that_fails_leaves_nothing_behind(segmenter: FewShotSegmenter) -> None:
    frames = pictures(6)
    broken: list[object] = [*frames]
    broken.insert(3, np.zeros((3, 4), np.float32))
    whole = [f.result.labels for f in segmenter.stream(frames, memory=Memory(), steady=True)]  # type: ignore[union-attr]
    found = list(segmenter.stream(broken, memory=Memory(), steady=True))
    assert found[3].result is None and found[3].error is not None
    kept = [f.result.labels for f in found if f.result is not None]
    assert all((a == b).all() for a, b in zip(whole, kept, strict=True))


def test_without_opencv_it_says_what_to_install(
    segmenter: FewShotSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(HSNetError, match="needs OpenCV"):
        segmenter.stream(pictures(1), steady=True)


def test_ten_thousand_frames_without_growth(
    segmenter: FewShotSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of a video, without the network: shots come and go all the time."""
    monkeypatch.setattr(motion.MotionFinder, "find", lambda self, frame: None)
    given = segmenter._current.snapshot("test").supports
    (shot,) = given.classes["red"]
    memory = Memory(4, age=50)
    follower = Follower(memory, steady=True)
    whole = place((96, 128), (96, 128), "stretch")
    small = shrink(pictures(1)[0], whole)
    logits = np.zeros((1, 2, 12, 16), np.float32)
    logits[:, 1] = -3
    logits[:, 1, 3:8, 3:8] = 5
    seen, taken, windows = set(), [], set()

    def encode(plane: np.ndarray) -> dict:
        return {level: type(c)(c.at, c.values.copy(), c.row) for level, c in shot.items()}

    tracemalloc.start()
    for number in range(10_000):
        turn = follower.turn(given)
        seen.add(tuple(turn.remembered))
        window = follower.look(small, whole)
        windows.add(window)
        view = None
        if window is not None:
            view = View(window, place((window.height, window.width), (96, 128), "stretch"), whole)
        planes = follower.settle(turn, logits, small, encode, view)
        follower.see(turn, {"red": 0.5}, planes, closer=False)
        if number in (999, 9_999):
            gc.collect()  # else how much garbage waits depends on the tests before
            taken.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert seen == {(), ("red",)} and len(memory) == 4 and len(windows) > 1
    assert taken[1] - taken[0] < 20_000
    assert isinstance(given, SupportSet) and given.shots == [1]
