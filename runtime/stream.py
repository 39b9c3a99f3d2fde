"""Frames in, results out, in order: reading ahead, several under way, and how a stream ends."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from hsnet_trt.errors import BackendError, HSNetError
from hsnet_trt.runtime.current_supports import CurrentSupports
from hsnet_trt.runtime.pictures.result import StreamedFrame
from hsnet_trt.runtime.pipeline import FramePipeline, Pending, ReadFrame

_PATIENCE = 3.0  # seconds that an ending stream waits for the read that is under way


class FrameStream:
    """An iterator of `StreamedFrame`, for one thread at a time; see `FewShotSegmenter.stream`."""

    def __init__(
        self,
        frames: Iterable[Any],
        pipeline: FramePipeline,
        supports: CurrentSupports,
        *,
        slots: int,
        drop: bool,
        scores: bool,
        color: str,
        owner: object = None,
    ) -> None:
        """Use `FewShotSegmenter.stream`; `owner` lives as long, since its end frees the GPU."""
        self._owner = owner
        self._pipeline, self._supports = pipeline, supports
        self._scores = scores
        read = partial(pipeline.read, color=color)
        self._reader = _Reader(frames, read, 1 if drop else slots, drop=drop)
        self._under_way: deque[tuple[StreamedFrame, Pending | None]] = deque()
        self._end = weakref.finalize(self, _end, self._reader, pipeline, self._under_way)
        self._reader.start()

    def __iter__(self) -> Iterator[StreamedFrame]:
        return self

    def __next__(self) -> StreamedFrame:
        """The next frame's result, or its error.

        Raises:
            BackendError: the segmenter was closed.
            Exception: whatever the source of frames raised, after the results of the frames that
                it had given before.
        """
        if not self._end.alive:
            if self._reader.closed_by_segmenter:
                raise self._closed()
            raise StopIteration
        while len(self._under_way) < self._pipeline.slots:
            # With a frame under way, its result is not kept back for one that is not there yet.
            item = self._reader.take(wait=not self._under_way)
            if item is None:
                break
            self._under_way.append(self._start(*item))
        if self._under_way:
            return self._finish(*self._under_way.popleft())
        failure = self._reader.failure
        by_segmenter = self._reader.closed_by_segmenter
        self._end()
        if by_segmenter:
            raise self._closed()
        if failure is not None:
            raise failure
        raise StopIteration

    def close(self) -> None:
        """End the stream: read no more frames, and give up those under way. May be repeated.

        Waits up to 3 s until the source has given the frame that is being read and is closed. A
        source that takes longer is closed in the background when it answers.
        """
        self._end()

    def close_with_segmenter(self) -> None:
        """`close`; a thread that still iterates gets a BackendError."""
        self._reader.closed_by_segmenter = True
        self._reader.stop()

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _start(
        self, frame: StreamedFrame, read: ReadFrame | None
    ) -> tuple[StreamedFrame, Pending | None]:
        if read is None:
            return frame, None
        try:
            with self._supports.use("stream"):
                return frame, read.start(self._supports.snapshot("stream"), scores=self._scores)
        except HSNetError as error:
            return _failed(frame, error), None

    def _finish(self, frame: StreamedFrame, pending: Pending | None) -> StreamedFrame:
        if self._reader.closed_by_segmenter:
            if pending is not None:
                self._under_way.appendleft((frame, pending))
            self._end()
            raise self._closed()
        dropped = self._reader.dropped
        if pending is None:
            return StreamedFrame(frame.index, frame.image, None, frame.error, dropped)
        try:
            with self._supports.use("stream"):
                result = pending.result()
        except HSNetError as error:
            return StreamedFrame(frame.index, frame.image, None, error, dropped)
        return StreamedFrame(frame.index, frame.image, result, None, dropped)

    @staticmethod
    def _closed() -> BackendError:
        return BackendError(
            "the segmenter was closed during a stream",
            fix="end the stream first, or open the bundle again: FewShotSegmenter.load(path)",
        )


class _Reader:
    """Reads frames in a thread, a few ahead. Holds no reference to the stream, which may be
    garbage collected.
    """

    def __init__(
        self,
        frames: Iterable[Any],
        read: Callable[[Any, str], ReadFrame],
        limit: int,
        *,
        drop: bool,
    ) -> None:
        self._frames, self._decode, self._limit, self._drop = frames, read, limit, drop
        self._changed = threading.Condition()
        # Daemon: a camera that never answers must not keep the process from ending.
        self._thread = threading.Thread(target=self._read, name="hsnet-trt frames", daemon=True)
        self._ready: deque[tuple[StreamedFrame, ReadFrame | None]] = deque()
        self._stopped = self._ended = False
        self.closed_by_segmenter = False
        self.failure: BaseException | None = None
        self.dropped = 0

    def start(self) -> None:
        self._thread.start()

    def take(self, *, wait: bool) -> tuple[StreamedFrame, ReadFrame | None] | None:
        """The next frame; None at the end, or if none is there and `wait` is false."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._ready or self._ended or self._stopped)
            if not self._ready or self._stopped:
                return None
            item = self._ready.popleft()
            self._changed.notify_all()
            return item

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._ready.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until the thread has ended, if it does so soon.

        A daemon thread that comes back from a C++ library while the interpreter exits is unwound
        there, and that ends the process: "terminate called without an active exception".
        """
        # A stream may be garbage collected in any thread, this one among them.
        if self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE)

    def _read(self) -> None:
        try:
            for index, source in enumerate(self._frames):
                read: ReadFrame | None = None
                try:
                    read = self._decode(source, f"frame {index}")
                    frame = StreamedFrame(index, read.pixels, None, None)
                except HSNetError as error:
                    frame = StreamedFrame(index, None, None, error)
                if not self._put((frame, read)):
                    break
        except BaseException as error:  # noqa: BLE001  (raised where frames are taken)
            self.failure = error
        finally:
            # A generator's own clean-up (a camera's release) runs here, not when it is collected.
            close = getattr(self._frames, "close", None)
            if close is not None and (self._stopped or self.failure is not None):
                with suppress(Exception):
                    close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, item: tuple[StreamedFrame, ReadFrame | None]) -> bool:
        with self._changed:
            if self._drop:
                while len(self._ready) >= self._limit:
                    self._ready.popleft()
                    self.dropped += 1
            else:
                self._changed.wait_for(lambda: len(self._ready) < self._limit or self._stopped)
            if self._stopped:
                return False
            self._ready.append(item)
            self._changed.notify_all()
            return True


def _end(
    reader: _Reader,
    pipeline: FramePipeline,
    under_way: deque[tuple[StreamedFrame, Pending | None]],
) -> None:
    """End a stream; also called when it is garbage collected, and when the interpreter exits."""
    reader.stop()
    while under_way:
        _, pending = under_way.popleft()
        if pending is not None:
            with suppress(HSNetError):
                pending.abandon()
    reader.join()
    with suppress(HSNetError):
        pipeline.close()


def _failed(frame: StreamedFrame, error: HSNetError) -> StreamedFrame:
    return StreamedFrame(frame.index, frame.image, None, error, frame.dropped)
