"""Opening a source by name: a camera, a URL, a pipeline, a video file or a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.cameras import gstreamer
from hsnet_trt.runtime.cameras.capture import Capture, without_password
from hsnet_trt.runtime.cameras.opencv_capture import OpenCVCapture, has_gstreamer
from hsnet_trt.runtime.cameras.reconnect import frames

_IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
_EXPECTED = "camera:0, csi:0, rtsp://..., gst:PIPELINE, a video file, or a folder of photographs"


@dataclass(frozen=True)
class FrameSource:
    """Frames in order; they can be iterated once.

    Attributes:
        frames: uint8 [H,W,3] BGR, or paths of photographs. Iterating may raise InputError.
        live: whether frames come in real time, as from a camera: use `drop="oldest"` to keep up.
        count: how many there are; None if unknown.
        rate: frames per second; None if unknown.
        ended: set it, from any thread, when no more frames are wanted: a lost camera is then not
            opened again.
    """

    frames: Iterator[Any]
    live: bool
    count: int | None
    rate: float | None
    ended: Event = field(default_factory=Event)


def open_source(text: str | os.PathLike[str], *, patience: float = 30.0) -> FrameSource:
    """Open a camera, a stream, a video or a folder; `FewShotSegmenter.stream` takes its frames.

    Args:
        text: `camera:0` (V4L2), `csi:0` (a Jetson's CSI camera, through GStreamer), a URL such as
            `rtsp://...`, `gst:PIPELINE` (in gst-launch-1.0's syntax, ending in raw video, without a
            sink), a video file, or a folder of photographs in the order of their names.
        patience: how many seconds to try to reopen a camera or stream that is lost; 0 ends the
            frames at the first loss.

    Raises:
        InputError: there is no such source, or it cannot be opened.
    """
    if not isinstance(text, (str, os.PathLike)):
        raise InputError(
            "the source has no name",
            expected=_EXPECTED,
            found=repr(text),
            fix=f'give a camera as "camera:{text if isinstance(text, int) else 0}"',
        )
    text = os.fspath(text)
    kind, _, rest = text.partition(":")
    if kind == "gst":
        return _captured(text, lambda: _pipeline(rest, text), patience)
    if kind == "csi" and rest.isdecimal():
        pipeline = gstreamer.csi_pipeline(int(rest))
        return _captured(text, lambda: _pipeline(pipeline, text), patience)
    if kind == "camera" and rest.isdecimal():
        return _captured(text, lambda: OpenCVCapture(int(rest), text, live=True), patience)
    if "://" in text:
        return _captured(text, lambda: OpenCVCapture(text, text, live=True), patience)
    path = Path(text)
    if path.is_dir():
        # Hidden files are not photographs, such as macOS' ._1.jpg.
        photographs = sorted(
            p for p in path.iterdir() if p.suffix.lower() in _IMAGES and p.name[0] != "."
        )
        if not photographs:
            raise InputError(
                f"there are no photographs in {path}",
                expected="files that end in " + ", ".join(sorted(_IMAGES)),
                fix="check the folder; those below it are not searched",
            )
        return FrameSource(iter(photographs), live=False, count=len(photographs), rate=None)
    if not path.is_file():
        number = text.removeprefix("/dev/video")
        camera = f'give a camera as "camera:{number}"' if number.isdecimal() else None
        raise InputError(
            f"there is no input {text}", expected=_EXPECTED, fix=camera or "check the path"
        )
    return _captured(text, lambda: OpenCVCapture(str(path), text, live=False), patience)


def _pipeline(pipeline: str, name: str) -> Capture:
    """A GStreamer capture through PyGObject, else through an OpenCV with GStreamer (JetPack's)."""
    if not gstreamer.is_there() and has_gstreamer():
        return OpenCVCapture(gstreamer.to_bgr(pipeline), name, live=True, through_gstreamer=True)
    return gstreamer.GStreamerCapture(pipeline, name)


def _captured(text: str, make: Callable[[], Capture], patience: float) -> FrameSource:
    capture = make()
    ended = Event()
    pictures = frames(capture, without_password(text), make, patience, ended)
    return FrameSource(pictures, capture.live, capture.count, capture.rate, ended)
