"""Things in a video with ids: drawn, and written to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.pictures.result import Segmentation
from hsnet_trt.runtime.video.instances import draw_instances
from hsnet_trt.runtime.video.records import LineFile, event_line, format_of
from hsnet_trt.runtime.video.tracker import Tracker


class TrackFiles:
    """Follows the things in the frames of a video. A context manager, which closes the files."""

    def __init__(self, tracks: Sequence[Path], events: Path | None, rate: float | None) -> None:
        """Open the files.

        Args:
            tracks: where instances are written, each in the form of its ending.
            events: where it is written what entered and left; None for nowhere.
            rate: of the video, frames a second, where it has one.

        Raises:
            InputError: another ending, or a file cannot be written.
        """
        formats = [format_of(path) for path in tracks]
        self._tracks = list(zip((LineFile(path) for path in tracks), formats, strict=True))
        self._events = None if events is None else LineFile(events)
        self._rate, self._tracker = rate, Tracker()

    def add(self, result: Segmentation, image: Pixels, frame: int, picture: Pixels) -> None:
        """Follow the things of a frame that was segmented, write them and draw them.

        Args:
            result: its masks.
            image: its pixels, uint8 [H,W,3].
            frame: its number.
            picture: what is drawn on.

        Raises:
            HSNetError: a library that this needs is not installed.
        """
        found = self._tracker.update(result, image, frame)
        for file, form in self._tracks:
            file.write([form(one) for one in found])
        self._write_events()
        draw_instances(picture, found)

    def __enter__(self) -> TrackFiles:
        return self

    def __exit__(self, *exception: object) -> None:
        self._tracker.finish()
        self._write_events()
        for file, _ in self._tracks:
            file.close()
        if self._events is not None:
            self._events.close()

    def _write_events(self) -> None:
        if self._events is not None:
            self._events.write([event_line(event, self._rate) for event in self._tracker.events])
