"""Frames on a GPU that fail, and streams that end in the middle."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fakes.cuda import FakeCuda
from helpers.fakes.gpu_segmenter import load
from helpers.pictures.frame_answers import pictures

from hsnet_trt.errors import BackendError, InputError

Shot = tuple[np.ndarray, np.ndarray]


@pytest.mark.usefixtures("packaged_kernels")
@pytest.mark.parametrize("refine", [False, True])
def test_logits_that_are_not_finite_are_an_error_of_that_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot, refine: bool
) -> None:
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch, refine=refine)
    with segmenter:
        segmenter.set_support("red", *red_shot)
        session = sys.modules["tensorrt"].engines[2].session
        true_run = session.run
        calls: list[int] = []

        class Spoiled:
            get_outputs = session.get_outputs

            def run(self, outputs: Any, feed: Any) -> Any:
                calls.append(1)
                answer = true_run(outputs, feed)
                if len(calls) == 2:
                    answer[0][:] = np.inf
                return answer

        sys.modules["tensorrt"].engines[2].session = Spoiled()
        found = list(segmenter.stream(pictures(4)))
        assert [f.error is None for f in found] == [True, False, True, True]
        assert "not finite" in str(found[1].error)
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
def test_closing_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot
) -> None:
    """During a stream, with frames under way; then by losing a stream; then by an exception."""
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch)
    segmenter.set_support("red", *red_shot)
    stream = segmenter.stream(pictures(8), slots=3)
    next(stream)
    segmenter.close()
    with pytest.raises(BackendError, match="closed during a stream"):
        next(stream)
    assert driver.settled()
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch)
    segmenter.set_support("red", *red_shot)
    for frame in segmenter.stream(pictures(8)):
        assert frame.result is not None
        break
    with pytest.raises(ZeroDivisionError), segmenter:
        for frame in segmenter.stream(pictures(8)):
            assert frame.index / 0
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
def test_a_stream_outlives_the_segmenter_that_nobody_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot
) -> None:
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch)
    segmenter.set_support("red", *red_shot)
    stream = segmenter.stream(pictures(4))
    del segmenter
    gc.collect()
    assert [frame.error for frame in stream] == [None] * 4
    del stream
    gc.collect()
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
def test_the_gpu_is_freed_after_the_last_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot
) -> None:
    """One thread leaves a stream, and so waits for its frames; another closes the segmenter."""
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch)
    segmenter.set_support("red", *red_shot)
    stream = segmenter.stream(pictures(8), slots=3)
    next(stream)
    inside, go, waited = threading.Event(), threading.Event(), []
    synchronise = FakeCuda.synchronise_event

    def slow(self: FakeCuda, event: Any) -> None:
        inside.set()
        assert go.wait(20)
        synchronise(self, event)
        waited.append(self.retained)

    monkeypatch.setattr(FakeCuda, "synchronise_event", slow)
    leaving = threading.Thread(target=stream.close)
    closing = threading.Thread(target=segmenter.close)
    leaving.start()
    assert inside.wait(20)
    closing.start()
    closing.join(0.5)
    go.set()
    for thread in (leaving, closing):
        thread.join(20)
    assert waited and all(waited)
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
def test_supports_are_freed_after_the_frames_that_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot
) -> None:
    """A lane of one set is opened beside one of three whose frames are under way."""
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch)
    with segmenter:
        segmenter.set_support("red", *red_shot)
        frames, pipeline = segmenter._network.runner.frames, segmenter._network.pipeline
        assert frames is not None
        sets = [pipeline.arrange(segmenter._current.supports) for _ in range(4)]
        lane, query = frames.open_lane(3, 3), pictures(1)[0]

        def submit(lane: Any, index: int) -> Any:
            return lane.submit(query, sets[index].calls[0], [1], scores=False)

        for frame in [submit(lane, index) for index in range(3)]:
            expected = frame.collect().labels
        under_way = [submit(lane, index) for index in range(3)]
        under_way.append(submit(frames.open_lane(1), 3))
        for frame in under_way:
            np.testing.assert_array_equal(frame.collect().labels, expected)
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
def test_a_picture_taller_than_a_grid_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot
) -> None:
    """In words, before any work; the next frame has its slot."""
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch)
    tall, query = np.zeros((8 * 65535 + 1, 1, 3), np.uint8), pictures(1)[0]
    with segmenter:
        segmenter.set_support("red", *red_shot)
        for _ in range(3):
            with pytest.raises(InputError, match="too tall for the GPU") as caught:
                segmenter.segment(tall)
            assert caught.value.found == "524,281 rows"
        for steady in (False, True):
            found = list(segmenter.stream([tall, query, query], steady=steady))
            assert [type(frame.error) for frame in found] == [InputError, type(None), type(None)]
    assert driver.settled()
