"""Frames in, results out, in order: reading ahead, several under way, and ending in every way."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from types import TracebackType
from typing import Any

from hsnet_trt.errors import BackendError, HSNetError
from hsnet_trt.runtime.matching.support_set import SupportSet
from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.pictures.result import StreamedFrame
from hsnet_trt.runtime.pipeline import Path


class FrameStream:
    """An iterator of `StreamedFrame`; see `FewShotSegmenter.stream`. For one thread at a time."""

    def __init__(
        self,
        frames: Iterable[Any],
        path: Path,
        use: Callable[[str], AbstractContextManager[None]],
        snapshot: Callable[[str], tuple[SupportSet, Any]],
        *,
        slots: int,
        drop: bool,
        scores: bool,
        color: str,
    ) -> None:
        """Use `FewShotSegmenter.stream`."""
        self._path, self._use, self._snapshot, self._scores = path, use, snapshot, scores
        read = partial(path.read, color=color)
        self._reader = _Reader(frames, read, 1 if drop else slots, drop=drop)
        self._under_way: deque[tuple[StreamedFrame, Any]] = deque()
        self._end = weakref.finalize(self, _end, self._reader, path, self._under_way)
        self._reader.start()

    def __iter__(self) -> Iterator[StreamedFrame]:
        return self

    def __next__(self) -> StreamedFrame:
        """The next frame's result, or its error.

        Raises:
            BackendError: the segmenter was closed.
            Exception: whatever the source of frames raised, after the frames before it.
        """
        if not self._end.alive:
            if self._reader.closed_by_segmenter:
                raise self._closed()
            raise StopIteration
        while len(self._under_way) < self._path.slots:
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
        """End the stream: no more frames are read, those under way are let go. May be repeated."""
        self._end()

    def close_with_segmenter(self) -> None:
        """`close`, and say so to whoever goes on iterating, in whatever thread."""
        self._reader.closed_by_segmenter = True
        self._reader.stop()

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, frame: StreamedFrame, prepared: Any) -> tuple[StreamedFrame, Any]:
        if frame.error is None:
            assert frame.image is not None
            try:
                with self._use("stream"):
                    supports, arranged = self._snapshot("stream")
                    ticket = self._path.start(
                        frame.image, prepared, supports, arranged, self._scores
                    )
                return frame, ticket
            except HSNetError as error:
                return _failed(frame, error), None
        return frame, None

    def _finish(self, frame: StreamedFrame, ticket: Any) -> StreamedFrame:
        if self._reader.closed_by_segmenter:
            if ticket is not None:
                self._under_way.appendleft((frame, ticket))
            self._end()
            raise self._closed()
        dropped = self._reader.dropped
        if frame.error is not None:
            return StreamedFrame(frame.index, frame.image, None, frame.error, dropped)
        try:
            with self._use("stream"):
                result = self._path.finish(ticket)
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
    """Reads frames in a thread, a few ahead. Knows nothing of the stream, so that may be lost."""

    def __init__(
        self,
        frames: Iterable[Any],
        read: Callable[[Any, str], tuple[Pixels, Any]],
        limit: int,
        *,
        drop: bool,
    ) -> None:
        self._frames, self._decode, self._limit, self._drop = frames, read, limit, drop
        self._changed = threading.Condition()
        self._ready: deque[tuple[StreamedFrame, Any]] = deque()
        self._stopped = self._ended = False
        self.closed_by_segmenter = False
        self.failure: BaseException | None = None
        self.dropped = 0

    def start(self) -> None:
        # Daemon: a camera that never answers must not keep the process from ending.
        threading.Thread(target=self._read, name="hsnet-trt frames", daemon=True).start()

    def take(self, *, wait: bool) -> tuple[StreamedFrame, Any] | None:
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

    def _read(self) -> None:
        try:
            for index, source in enumerate(self._frames):
                try:
                    pixels, prepared = self._decode(source, f"frame {index}")
                    item = StreamedFrame(index, pixels, None, None), prepared
                except HSNetError as error:
                    item = StreamedFrame(index, None, None, error), None
                if not self._put(item):
                    break
        except BaseException as error:  # noqa: BLE001  (told where frames are taken)
            self.failure = error
        finally:
            # A generator's own clean-up (a camera's release) runs here, not when it is collected.
            close = getattr(self._frames, "close", None)
            if close is not None and self._stopped:
                with suppress(Exception):
                    close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, item: tuple[StreamedFrame, Any]) -> bool:
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


def _end(reader: _Reader, path: Path, under_way: deque[tuple[StreamedFrame, Any]]) -> None:
    """Ends a stream, also one that nobody holds any more, also when the interpreter ends."""
    reader.stop()
    while under_way:
        _, ticket = under_way.popleft()
        if ticket is not None:
            with suppress(HSNetError):
                path.abandon(ticket)
    with suppress(HSNetError):
        path.close()


def _failed(frame: StreamedFrame, error: HSNetError) -> StreamedFrame:
    return StreamedFrame(frame.index, frame.image, None, error, frame.dropped)
