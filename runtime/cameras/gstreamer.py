"""Frames through GStreamer and PyGObject, for Jetson cameras; pip's OpenCV lacks GStreamer."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.cameras.capture import CaptureLost, Picture, as_utf8, without_password

SILENCE = 10  # longest wait for the first frame and between frames, in seconds
_SINK = "hsnet_trt_frames"


def csi_pipeline(number: int) -> str:
    """The pipeline of a Jetson's CSI camera (Jetson Linux guide, "Accelerated GStreamer")."""
    return (
        f"nvarguscamerasrc sensor-id={number} ! "
        "video/x-raw(memory:NVMM), width=1280, height=720, framerate=30/1 ! "
        "nvvidconv ! video/x-raw, format=BGRx"
    )


def to_bgr(pipeline: str) -> str:
    """A pipeline that ends in raw video, extended by conversion to BGR and an appsink."""
    return f"{pipeline} ! videoconvert ! video/x-raw,format=BGR ! appsink sync=false"


class GStreamerCapture:
    """A `Capture` on a GStreamer pipeline, described as `gst-launch-1.0` takes it."""

    def __init__(self, pipeline: str, name: str) -> None:
        """Start it and wait for its first frame.

        Args:
            pipeline: elements that end in raw video of any format, without a sink.
            name: names it in messages.

        Raises:
            InputError: PyGObject or GStreamer is missing, the pipeline gives no frame, or it is
                not UTF-8.
        """
        self._gst = _library()
        self._name = without_password(name)
        self.rate: float | None = None
        self.count = None
        self._pipeline = self._parse(as_utf8(pipeline))
        self._sink = self._pipeline.get_by_name(_SINK)
        try:
            started = self._pipeline.set_state(self._gst.State.PAUSED)
            self.live = started == self._gst.StateChangeReturn.NO_PREROLL
            self._sink.set_property("drop", self.live)
            self._sink.set_property("max-buffers", 1 if self.live else 4)
            self._pipeline.set_state(self._gst.State.PLAYING)
            self._first = self._pull()
        except CaptureLost as error:
            self.close()
            raise InputError(
                f"{self._name} gives no frame",
                expected=f"the first within {SILENCE} s",
                found=error.found or "silence",
                fix="try the same pipeline with gst-launch-1.0 and `! fakesink` behind it",
            ) from error
        except BaseException:
            self.close()
            raise
        if self._first is None:
            self.close()
            raise InputError(
                f"{self._name} ends before its first frame",
                fix="try the pipeline with gst-launch-1.0",
            )

    def read(self) -> Picture | None:
        """See `Capture.read`."""
        if self._first is not None:
            picture, self._first = self._first, None
            return picture
        return self._pull()

    def close(self) -> None:
        """See `Capture.close`."""
        self._pipeline.set_state(self._gst.State.NULL)

    def _parse(self, pipeline: str) -> Any:
        from gi.repository import GLib

        try:
            return self._gst.parse_launch(f"{to_bgr(pipeline)} name={_SINK}")
        except GLib.Error as error:
            raise InputError(
                f"GStreamer does not understand {self._name}",
                expected="elements that end in raw video, without a sink",
                found=without_password(error.message),
                fix="look for a missing element with gst-inspect-1.0 NAME, and install its plugins",
            ) from error

    def _pull(self) -> Picture | None:
        """The next frame; None at the end of a source that is not live."""
        for _ in range(4 * SILENCE):
            sample = self._sink.try_pull_sample(self._gst.SECOND // 4)
            if sample is not None:
                return self._picture(sample)
            failure = self._failure()
            if failure is not None:
                break
            if self._sink.get_property("eos"):
                if not self.live:
                    return None
                failure = "the end of the stream"
                break
        raise CaptureLost(
            f"{self._name} gives no more frames", found=failure or f"no frame for {SILENCE} s"
        )

    def _failure(self) -> str | None:
        """The pipeline's latest error message; None if there is none."""
        message = self._pipeline.get_bus().pop_filtered(self._gst.MessageType.ERROR)
        if message is None:
            return None
        error, _ = message.parse_error()
        return without_password(f"{message.src.get_name()}: {error.message}")

    def _picture(self, sample: Any) -> Picture:
        from gi.repository import GstVideo

        layout = GstVideo.VideoInfo.new_from_caps(sample.get_caps())
        if layout.fps_n > 0 and layout.fps_d > 0:
            self.rate = layout.fps_n / layout.fps_d
        buffer = sample.get_buffer()
        # Copied, because the buffer is reused by the camera. Rows may be padded (to 4 bytes).
        data = np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.uint8)
        height, width, pitch = layout.height, layout.width, layout.stride[0]
        if data.size < pitch * (height - 1) + 3 * width:
            raise CaptureLost(f"{self._name} gave {data.size} bytes for {width} x {height} pixels")
        return np.lib.stride_tricks.as_strided(data, (height, width, 3), (pitch, 3, 1))


def is_there() -> bool:
    """Whether GStreamer can be used through PyGObject."""
    try:
        _library()
    except InputError:
        return False
    return True


@cache
def _library() -> Any:
    """`gi.repository.Gst`, initialised.

    Raises:
        InputError: PyGObject or GStreamer is not installed.
    """
    try:
        import gi

        for name in ("Gst", "GstApp", "GstVideo"):
            gi.require_version(name, "1.0")
        from gi.repository import Gst, GstApp, GstVideo  # noqa: F401
    except (ImportError, ValueError) as error:
        raise InputError(
            "GStreamer cannot be used",
            expected="PyGObject and GStreamer's typelibs",
            found=error,
            fix="apt install python3-gi gir1.2-gst-plugins-base-1.0, in an environment made with "
            "`python3 -m venv --system-site-packages`; or pip install PyGObject",
        ) from error
    Gst.init(None)
    return Gst
