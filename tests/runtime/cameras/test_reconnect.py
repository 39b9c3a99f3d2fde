"""Cameras that go away: what is read of them, in which order, and what is said."""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from hsnet_trt.errors import HSNetWarning, InputError
from hsnet_trt.runtime.cameras import reconnect
from hsnet_trt.runtime.cameras.capture import Capture, CaptureLost, Picture, without_password


class FakeCapture:
    """Gives the pictures that it has, then ends or is lost; each picture holds its number."""

    live, rate, count = True, None, None

    def __init__(self, numbers: list[int], *, ends: bool = False) -> None:
        self.numbers, self.ends, self.closed = iter(numbers), ends, 0

    def read(self) -> Picture | None:
        for number in self.numbers:
            return np.full((1, 1, 3), number, np.uint8)
        if self.ends:
            return None
        raise CaptureLost("the camera gives no more frames", found="unplugged")

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that passes only by waiting for the end, which does not come."""
    pauses: list[float] = []

    class Never:
        def wait(self, pause: float) -> bool:
            pauses.append(pause)
            return False

    monkeypatch.setattr(reconnect, "Event", Never)
    monkeypatch.setattr(reconnect.time, "monotonic", lambda: sum(pauses))
    return pauses


def opener(*outcomes: Capture | None) -> Callable[[], Capture]:
    """What opening gives, one after the other; None: it cannot be opened; the last for ever."""
    following: Iterator[Capture | None] = itertools.chain(outcomes, itertools.repeat(outcomes[-1]))

    def open_again() -> Capture:
        capture = next(following)
        if capture is None:
            raise InputError("the camera cannot be opened", found="no such device")
        return capture

    return open_again


def numbers(frames: Iterator[Picture]) -> list[int]:
    return [int(picture[0, 0, 0]) for picture in frames]


def test_frames_go_on_where_the_camera_comes_back(slept: list[float]) -> None:
    first, silent = FakeCapture([1, 2]), FakeCapture([])
    second, third = FakeCapture([3]), FakeCapture([4, 5], ends=True)
    with pytest.warns(HSNetWarning) as caught:
        frames = reconnect.frames(
            first, "camera:0", opener(None, silent, None, second, third), patience=30
        )
        assert numbers(frames) == [1, 2, 3, 4, 5]
    said = [str(warning.message) for warning in caught]
    assert "camera:0 went away (unplugged): trying for 30 s" in said[0]
    assert said[1] == f"camera:0 is back after {sum(slept[:4]):.1f} s"
    assert len(said) == 4
    assert all(capture.closed for capture in (first, silent, second, third))


def test_a_camera_that_opens_and_stays_silent_is_given_up(slept: list[float]) -> None:
    silent = FakeCapture([])
    frames = reconnect.frames(FakeCapture([1]), "camera:0", opener(silent), patience=7)
    with pytest.warns(HSNetWarning, match="went away"):
        assert next(frames)[0, 0, 0] == 1
        with pytest.raises(InputError, match="did not come back") as raised:
            next(frames)
    assert "a frame within 7 s" in str(raised.value) and "unplugged" in str(raised.value)
    assert 7 < sum(slept) < 10
    assert silent.closed == len(slept)


@pytest.mark.parametrize("ends", [True, False])
def test_without_patience_frames_end_when_they_end(ends: bool, slept: list[float]) -> None:
    capture = FakeCapture([1, 2], ends=ends)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert numbers(reconnect.frames(capture, "x", opener(None), patience=0)) == [1, 2]
    assert capture.closed and not slept


def test_a_reader_that_leaves_early_lets_go_of_the_camera() -> None:
    capture = FakeCapture([1, 2])
    frames = reconnect.frames(capture, "x", opener(None), patience=5)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert capture.closed


def test_a_camera_that_is_away_is_not_waited_for_once_nobody_wants_it() -> None:
    ended, tried, capture = threading.Event(), threading.Event(), FakeCapture([1])
    found: list[int] = []

    def open_again() -> Capture:
        tried.set()
        return opener(None)()

    frames = reconnect.frames(capture, "x", open_again, patience=600, ended=ended)
    reader = threading.Thread(target=lambda: found.extend(numbers(frames)), daemon=True)
    with pytest.warns(HSNetWarning, match="went away"):
        reader.start()
        assert tried.wait(20) and reader.is_alive()  # and now it is between two attempts
        ended.set()
        reader.join(20)
    assert not reader.is_alive() and found == [1] and capture.closed


def test_passwords_are_not_shown() -> None:
    assert without_password("rtsp://me:pa:ss@host/x") == "rtsp://***@host/x"
    assert without_password("gst:rtspsrc location=rtsp://a:b@h/x ! y") == (
        "gst:rtspsrc location=rtsp://***@h/x ! y"
    )
    assert without_password("rtsp://host/a@b") == "rtsp://host/a@b"
    assert without_password("rtsp://me:p@ss@host/a@b") == "rtsp://***@host/a@b"
    for text in (
        "gst:rtspsrc location=rtsp://host/x user-id=me user-pw=SECRET ! y",
        'gst:souphttpsrc proxy-pw = "SECRET words" ! y',
        "gst:srtsrc uri=srt://host passphrase=SECRET ! y",
        "rtmp://host/live?user=me&password=SECRET&channel=0",
    ):
        shown = without_password(text)
        assert "SECRET" not in shown and "words" not in shown and "***" in shown
        assert shown.endswith(("! y", "channel=0"))
