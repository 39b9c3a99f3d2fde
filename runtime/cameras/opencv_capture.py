"""Frames through OpenCV: V4L2 cameras, video files, and network streams (through its FFmpeg)."""

from __future__ import annotations

from typing import Any

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.cameras.capture import CaptureLost, Picture, as_utf8, without_password

SILENCE = 10_000  # timeout of a network stream, to open and between frames, in milliseconds


class OpenCVCapture:
    """A `Capture` on `cv2.VideoCapture`."""

    def __init__(
        self, source: int | str, name: str, *, live: bool, through_gstreamer: bool = False
    ) -> None:
        """Open it.

        Args:
            source: a camera's number, a file's path, a URL, or a GStreamer pipeline.
            name: names it in messages.
            live: whether the end of frames means that the source was lost, unless their number is
                known.
            through_gstreamer: whether `source` is a GStreamer pipeline; see `has_gstreamer`.

        Raises:
            InputError: OpenCV is not installed or cannot open it, or its name is not UTF-8.
        """
        self._name = without_password(name)
        named = source if isinstance(source, int) else as_utf8(source)
        self._capture = _open(named, through_gstreamer)
        if not self._capture.isOpened():
            self._capture.release()
            raise InputError(
                f"{self._name} cannot be opened",
                expected="a camera that answers" if live else "a video that OpenCV can decode",
                fix="check its cable or address, and that no other program uses it"
                if live
                else "check the file with another player",
            )
        import cv2

        rate = self._capture.get(cv2.CAP_PROP_FPS)
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.rate = float(rate) if 0 < rate < 1000 else None
        # A URL or pipeline may be of a file, which ends and is not lost.
        self.live = live and (isinstance(source, int) or count <= 0)
        self.count = count if count > 0 and not self.live else None

    def read(self) -> Picture | None:
        """See `Capture.read`."""
        there, picture = self._capture.read()
        if there:
            return picture  # type: ignore[no-any-return]
        if self.live:
            raise CaptureLost(f"{self._name} gives no more frames")
        return None

    def close(self) -> None:
        """See `Capture.close`."""
        self._capture.release()


def has_gstreamer() -> bool:
    """Whether the installed OpenCV can use GStreamer. That of pip lists it, but cannot."""
    try:
        import cv2
    except ImportError:
        return False
    return bool(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))


def _open(source: int | str, through_gstreamer: bool) -> Any:
    try:
        import cv2
    except ImportError as error:
        raise InputError(
            "cameras and videos need OpenCV",
            found=error,
            fix="pip install opencv-python-headless; without it, GStreamer: gst:PIPELINE",
        ) from error
    if through_gstreamer:
        return cv2.VideoCapture(source, cv2.CAP_GSTREAMER)
    if isinstance(source, int) or "://" not in source:
        return cv2.VideoCapture(source)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, SILENCE, cv2.CAP_PROP_READ_TIMEOUT_MSEC, SILENCE]
    return cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
