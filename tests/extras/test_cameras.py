"""Cameras as people have them: GStreamer pipelines, and RTSP from a server that goes away."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import SIZE
from helpers.command import hsnet
from helpers.pictures.scenes import RED, scene
from PIL import Image

from hsnet_trt.errors import HSNetWarning, InputError
from hsnet_trt.runtime.cameras.source import open_source

gi = pytest.importorskip("gi", reason="PyGObject is not installed")
for library in ("GstApp", "GstRtspServer"):
    try:
        gi.require_version(library, "1.0")
    except ValueError:
        pytest.skip(f"{library} is not installed", allow_module_level=True)

SERVER = Path(__file__).parent / "rtsp_server.py"


class Camera:
    """The server process, which can be killed and started again on its port."""

    def __init__(self) -> None:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"rtsp://viewer:a-secret@127.0.0.1:{self.port}/camera"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SERVER), str(self.port)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "listening\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def camera() -> Iterator[Camera]:
    it = Camera()
    yield it
    it.kill()


def through_gstreamer(address: str) -> str:
    return f"gst:rtspsrc location={address} latency=0 ! rtpjpegdepay ! jpegdec"


@pytest.mark.parametrize("size", [(241, 321), (240, 320), (1, 7)])
def test_a_pipeline_s_pictures_and_end(size: tuple[int, int]) -> None:
    """BGR, whole rows whatever their padding, all of them, and the end."""
    source = open_source(
        "gst:videotestsrc num-buffers=7 pattern=solid-color foreground-color=0xff204060 ! "
        f"video/x-raw,format=RGB,width={size[1]},height={size[0]},framerate=15/1"
    )
    assert (source.live, source.rate, source.count) == (False, 15.0, None)
    pictures = list(source.frames)
    assert len(pictures) == 7
    for picture in pictures:
        assert picture.shape == (*size, 3) and picture.dtype == np.uint8
        assert (picture == (0x60, 0x40, 0x20)).all()


def test_pixels_are_those_that_the_pipeline_had(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (37, 53, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    source = open_source(f"gst:filesrc location={tmp_path}/x.png ! pngdec")
    (picture,) = source.frames
    np.testing.assert_array_equal(picture[:, :, ::-1], pixels)


@pytest.mark.parametrize(
    ("pipeline", "says"),
    [
        ("videotestsrc ! nosuchelement", 'no element "nosuchelement"'),
        ("nvarguscamerasrc", 'no element "nvarguscamerasrc"'),
        ("videotestsrc num-buffers=0", "ends before its first frame"),
        ("filesrc location=/nothing.mp4 ! decodebin", "Resource not found"),
        ("rtspsrc location=rtsp://a:bcd@127.0.0.1:1/x ! decodebin", "rtsp://***@127.0.0.1:1/x"),
        ("audiotestsrc", "could not link|gives no frame"),
    ],
)
def test_a_pipeline_that_does_not_run_says_why(pipeline: str, says: str) -> None:
    with pytest.raises(InputError) as raised:
        open_source(f"gst:{pipeline}")
    assert any(part in str(raised.value) for part in says.split("|"))
    assert "bcd" not in str(raised.value)


@pytest.mark.parametrize("gstreamer", [False, True])
def test_a_camera_that_goes_away_comes_back(camera: Camera, gstreamer: bool) -> None:
    address = through_gstreamer(camera.address) if gstreamer else camera.address
    source = open_source(address, patience=60)
    assert source.live and source.rate == 30
    frames = source.frames
    assert all(next(frames).shape == (240, 320, 3) for _ in range(5))
    camera.kill()
    again = threading.Timer(1.5, camera.start)
    again.start()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # What was on its way when the server died may still come.
        for _ in range(100):
            assert next(frames).max() > 200  # the ball
    again.join()
    said = [str(w.message) for w in caught if w.category is HSNetWarning]
    assert len(said) == 2 and "went away" in said[0] and "is back after" in said[1]
    assert not any("a-secret" in text for text in said)
    frames.close()


def test_a_camera_that_stays_away_is_given_up_in_words(camera: Camera) -> None:
    frames = open_source(through_gstreamer(camera.address), patience=1).frames
    next(frames)
    camera.kill()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HSNetWarning)
        with pytest.raises(InputError, match="did not come back") as raised:
            while True:
                next(frames)
    assert "a frame within 1 s" in str(raised.value) and "a-secret" not in str(raised.value)
    camera.start()


def test_video_keeps_what_was_recorded_until_the_camera_was_lost(
    camera: Camera, tmp_path: Path
) -> None:
    make_bundle(tmp_path / "bundle")
    box = np.s_[10:80, 20:110]
    mask = np.zeros(SIZE, np.uint8)
    mask[box] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(scene(SIZE, [(RED, box)])).save(tmp_path / "red.png")
    given = (
        *("--input", through_gstreamer(camera.address), "--output", "out.mp4"),
        *("--support", "red=red.png,mask.png", "--backend", "onnxruntime"),
    )
    done = hsnet("video", "bundle", *given, "--limit", 5, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "5 frames in" in done.stderr
    whole = (tmp_path / "out.mp4").stat().st_size
    threading.Timer(8, camera.kill).start()
    done = hsnet("video", "bundle", *given, "--reconnect", 1, folder=tmp_path)
    assert done.returncode == 1 and "did not come back" in done.stderr
    assert "Traceback" not in done.stderr and "a-secret" not in done.stderr
    assert (tmp_path / "out.mp4").stat().st_size != whole
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "bundle",
        "mask.png",
        "out.mp4",
        "red.png",
    ]
    camera.start()
