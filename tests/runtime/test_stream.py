"""`FewShotSegmenter.stream` on a backend that works everywhere: order, back-pressure, failures."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.pictures.scenes import RED, scene

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BackendError, InputError
from hsnet_trt.runtime import stream as stream_module

Shot = tuple[np.ndarray, np.ndarray]


def picture(index: int) -> np.ndarray:
    return scene((96, 128), [(RED, (slice(10, 70), slice(5 + index, 60 + index)))])


@pytest.fixture
def segmenter(bundle: Path, red_shot: Shot) -> Iterator[FewShotSegmenter]:
    with FewShotSegmenter.load(bundle, backend="onnxruntime") as loaded:
        loaded.set_support("red", *red_shot)
        yield loaded


def until(holds: object, seconds: float = 20) -> None:
    """Wait until a condition holds; fail if it never does."""
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.005)


def reading() -> int:
    return sum(t.name == "hsnet-trt frames" for t in threading.enumerate())


@pytest.fixture(autouse=True)
def nothing_is_read_yet() -> None:
    """Readers of earlier tests may still be ending."""
    until(lambda: not reading())


def test_results_come_in_order_and_equal_segment(segmenter: FewShotSegmenter) -> None:
    pictures = [picture(i) for i in range(7)]
    found = list(segmenter.stream(iter(pictures), scores=True))
    assert [f.index for f in found] == list(range(7))
    for frame, pixels in zip(found, pictures, strict=True):
        expected = segmenter.segment(pixels)
        assert frame.result is not None and frame.image is pixels and frame.error is None
        np.testing.assert_array_equal(frame.result.labels, expected.labels)
        np.testing.assert_array_equal(frame.result.scores["red"], expected.scores["red"])
    assert segmenter.stream(pictures[:1]).__next__().result.scores == {}  # type: ignore[union-attr]


def test_a_source_is_read_no_further_ahead_than_there_are_slots(
    segmenter: FewShotSegmenter,
) -> None:
    read: list[int] = []

    def source() -> Iterator[np.ndarray]:
        for index in range(30):
            read.append(index)
            yield picture(index)

    stream = segmenter.stream(source(), slots=2)
    for taken in range(1, 5):
        next(stream)
        # Two wait, and one is in the reader's hands.
        until(lambda taken=taken: len(read) == taken + 3)
        time.sleep(0.03)
        assert len(read) == taken + 3
    stream.close()
    until(lambda: not reading())
    with pytest.raises(StopIteration):
        next(stream)


def test_a_frame_that_fails_yields_its_error_and_the_stream_goes_on(
    segmenter: FewShotSegmenter, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    frames = [picture(0), tmp_path / "bad.jpg", np.zeros((3, 4), np.float32), picture(3)]
    found = list(segmenter.stream(frames))
    assert [f.error is None for f in found] == [True, False, False, True]
    assert "frame 1 cannot be opened" in str(found[1].error) and found[1].image is None
    assert isinstance(found[2].error, InputError) and found[2].result is None


def test_an_error_of_the_source_comes_after_the_frames_before_it(
    segmenter: FewShotSegmenter,
) -> None:
    def source() -> Iterator[np.ndarray]:
        yield picture(0)
        yield picture(1)
        raise OSError("the cable was pulled")

    stream = segmenter.stream(source())
    assert [next(stream).index, next(stream).index] == [0, 1]
    with pytest.raises(OSError, match="cable"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


def test_a_live_source_drops_the_oldest(segmenter: FewShotSegmenter) -> None:
    go, produced = threading.Event(), threading.Event()

    def camera() -> Iterator[np.ndarray]:
        yield picture(0)
        go.wait(20)
        for index in range(1, 21):
            yield picture(index)
        produced.set()

    stream = segmenter.stream(camera(), drop="oldest")
    assert next(stream).index == 0
    go.set()
    assert produced.wait(20)
    until(lambda: not reading())
    rest = list(stream)
    assert [f.index for f in rest] == [20] and rest[0].dropped == 19
    for path in ("film.mp4", Path("film.mp4")):
        with pytest.raises(InputError, match="frames, one after the other"):
            segmenter.stream(path)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no such way to drop"):
        segmenter.stream([], drop="newest")


def test_supports_may_change_meanwhile(segmenter: FewShotSegmenter, green_shot: Shot) -> None:
    stream = segmenter.stream([picture(i) for i in range(6)])
    assert next(stream).result.classes == ("red",)  # type: ignore[union-attr]
    segmenter.set_support("green", *green_shot)
    assert next(stream).result.classes == ("red", "green")  # type: ignore[union-attr]
    segmenter.clear()
    frame = next(stream)
    assert frame.result is None and "before a support was set" in str(frame.error)
    with pytest.raises(InputError, match="before a support was set"):
        segmenter.stream([picture(0)])


def test_leaving_closes_the_source(segmenter: FewShotSegmenter) -> None:
    closed = threading.Event()

    def source() -> Iterator[np.ndarray]:
        try:
            while True:
                yield picture(0)
        finally:
            closed.set()

    for _ in segmenter.stream(source()):
        break
    assert closed.wait(20)
    closed.clear()
    with pytest.raises(ZeroDivisionError), segmenter.stream(source()) as stream:
        for frame in stream:
            assert frame.index / 0
    assert closed.wait(20)
    until(lambda: not reading())


def test_a_frame_that_ends_the_stream_closes_the_source(
    segmenter: FewShotSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera is free for others then, although the stream is still there."""
    closed = threading.Event()

    def source() -> Iterator[np.ndarray]:
        try:
            while True:
                yield picture(0)
        finally:
            closed.set()

    def read(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(segmenter._network.pipeline, "read", read)
    stream = segmenter.stream(source())
    with pytest.raises(MemoryError):
        next(stream)
    assert closed.wait(20) and stream is not None


@pytest.mark.parametrize("way", ["close", "break", "error"])
def test_ending_waits_for_the_read_that_is_under_way(
    segmenter: FewShotSegmenter, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A thread that comes back from OpenCV's read while the process ends would abort that."""
    monkeypatch.setattr(stream_module, "_PATIENCE", 20)  # on a busy machine, too
    closed, blocked = threading.Event(), threading.Event()

    def camera() -> Iterator[np.ndarray]:
        try:
            for index in range(9):
                if index == 3:
                    blocked.set()
                    time.sleep(0.5)
                yield picture(index)
        finally:
            closed.set()

    stream = segmenter.stream(camera())
    assert [next(stream).index for _ in range(3)] == [0, 1, 2]
    assert blocked.wait(20) and reading() == 1
    if way == "close":
        stream.close()
    elif way == "break":
        del stream
    else:
        with pytest.raises(ZeroDivisionError), stream:
            assert 1 / 0
    assert closed.is_set() and not reading()


def test_a_source_that_stays_silent_is_waited_for_no_longer_than_that(
    segmenter: FewShotSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_PATIENCE", 0.1)
    silent, closed = threading.Event(), threading.Event()

    def camera() -> Iterator[np.ndarray]:
        try:
            yield from map(picture, range(3))
            silent.wait(60)
            yield picture(3)
        finally:
            closed.set()

    stream = segmenter.stream(camera())
    for _ in range(3):
        next(stream)
    stream.close()
    assert reading() == 1 and not closed.is_set()
    silent.set()
    assert closed.wait(20)
    until(lambda: not reading())


def test_closing_the_segmenter_ends_its_streams(bundle: Path, red_shot: Shot) -> None:
    """From another thread, while the stream waits for a camera that says nothing."""
    segmenter = FewShotSegmenter.load(bundle, backend="onnxruntime")
    segmenter.set_support("red", *red_shot)
    silent = threading.Event()

    def camera() -> Iterator[np.ndarray]:
        yield picture(0)
        silent.wait(60)

    stream = segmenter.stream(camera())
    next(stream)
    threading.Timer(0.1, segmenter.close).start()
    with pytest.raises(BackendError, match="closed during a stream"):
        next(stream)
    silent.set()
    until(lambda: not reading())
    with pytest.raises(BackendError, match="closed"):
        segmenter.stream([picture(0)])


def test_a_segmenter_that_is_closed_while_a_stream_is_opened_ends_it(
    bundle: Path, red_shot: Shot, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = FewShotSegmenter.load(bundle, backend="onnxruntime")
    segmenter.set_support("red", *red_shot)
    pipeline = segmenter._network.pipeline
    closing = threading.Thread(target=segmenter.close)

    def slow(slots: int) -> object:
        closing.start()
        until(lambda: segmenter._current.closed)
        return pipeline

    monkeypatch.setattr(pipeline, "with_slots", slow)
    stream = segmenter.stream(map(picture, range(9)))
    closing.join(20)
    with pytest.raises(BackendError, match="closed during a stream"):
        next(stream)


@pytest.mark.parametrize(
    ("seconds", "patience", "printed"), [(0.5, 20, "0\nreleased\n"), (600, 0.5, "0\n")]
)
def test_the_process_ends_during_a_stream(
    bundle: Path, seconds: float, patience: float, printed: str
) -> None:
    """With a camera that answers late, or never again, and nobody who closes anything."""
    code = (
        "import sys, time, numpy as np\n"
        "from hsnet_trt import FewShotSegmenter\n"
        "from hsnet_trt.runtime import stream\n"
        f"stream._PATIENCE = {patience}\n"
        "def camera():\n"
        "    yield np.full((64, 64, 3), 90, np.uint8)\n"
        f"    time.sleep({seconds})\n"
        "    print('released')\n"
        "segmenter = FewShotSegmenter.load(sys.argv[1], backend='onnxruntime')\n"
        "mask = np.zeros((64, 64), bool); mask[8:40, 8:40] = True\n"
        "segmenter.set_support('a', np.full((64, 64, 3), 90, np.uint8), mask)\n"
        "frames = segmenter.stream(camera())\n"
        "print(next(frames).index)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")
