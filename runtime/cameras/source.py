"""The source that a person names: a camera, an address, a pipeline, a file or a folder."""

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
    """Frames in their order, read once.

    Attributes:
        frames: uint8 [H,W,3] BGR, or paths of photographs. Reading them may raise InputError.
        live: whether they come from a camera, which does not wait: `drop="oldest"` keeps up.
        count: how many there are; None if that is not known.
        rate: frames a second; None if they have no time.
        ended: set it, from any thread, where no more frames are wanted: a camera that went away is
            then not opened again.
    """

    frames: Iterator[Any]
    live: bool
    count: int | None
    rate: float | None
    ended: Event = field(default_factory=Event)


def open_source(text: str | os.PathLike[str], *, patience: float = 30.0) -> FrameSource:
    """Open a camera, a stream, a video or a folder; `FewShotSegmenter.stream` takes its frames.

    Args:
        text: `camera:0` (V4L2), `csi:0` (a Jetson's CSI camera, through GStreamer), an address as
            `rtsp://...`, `gst:PIPELINE` (as gst-launch-1.0 takes it, ending in raw video, without
            a sink), a video file, or a folder of photographs in the order of their names.
        patience: how many seconds a camera or stream may be away until it is given up; 0 ends the
            frames when it first goes away. Files end at their end.

    Raises:
        InputError: there is no such thing, or it cannot be opened.
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
        photographs = sorted(p for p in path.iterdir() if p.suffix.lower() in _IMAGES)
        if not photographs:
            raise InputError(
                f"there are no photographs in {path}",
                expected="files that end in " + ", ".join(sorted(_IMAGES)),
                fix="check the folder; those below it are not searched",
            )
        return FrameSource(iter(photographs), live=False, count=len(photographs), rate=None)
    if not path.is_file():
        raise InputError(f"there is no input {text}", expected=_EXPECTED, fix="check the path")
    return _captured(text, lambda: OpenCVCapture(str(path), text, live=False), patience)


def _pipeline(pipeline: str, name: str) -> Capture:
    """Through PyGObject, or through an OpenCV that was built with GStreamer, as JetPack's."""
    if not gstreamer.is_there() and has_gstreamer():
        return OpenCVCapture(gstreamer.to_bgr(pipeline), name, live=True, through_gstreamer=True)
    return gstreamer.GStreamerCapture(pipeline, name)


def _captured(text: str, make: Callable[[], Capture], patience: float) -> FrameSource:
    capture = make()
    ended = Event()
    pictures = frames(capture, without_password(text), make, patience, ended)
    return FrameSource(pictures, capture.live, capture.count, capture.rate, ended)
