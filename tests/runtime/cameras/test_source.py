"""What names a source, and what is said where there is none."""

from __future__ import annotations

import functools
import itertools
import re
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.cameras import gstreamer, source
from hsnet_trt.runtime.cameras.source import open_source

cv2 = pytest.importorskip("cv2")


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_folder_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.txt", "._b.png"):  # the last as macOS leaves them
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name, format="png")
    found = open_source(str(tmp_path))
    assert (found.live, found.count, found.rate) == (False, 2, None)
    assert [path.name for path in found.frames] == ["a.JPG", "b.png"]


def test_a_video_ends_at_its_end(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "x.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for value in (10, 100, 200):
        writer.write(np.full((48, 64, 3), (value, 0, 0), np.uint8))
    writer.release()
    found = open_source(str(tmp_path / "x.avi"))
    assert (found.live, found.count, found.rate) == (False, 3, 5.0)
    pictures = list(found.frames)
    assert [abs(int(p[5, 5, 0]) - v) < 8 for p, v in zip(pictures, (10, 100, 200), strict=True)]
    assert all(p.shape == (48, 64, 3) for p in pictures)


def test_a_video_behind_a_url_ends_at_its_end_too(tmp_path: Path) -> None:
    """It is not lost, so it is not played again."""
    writer = cv2.VideoWriter(str(tmp_path / "x.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for value in (10, 100, 200):
        writer.write(np.full((48, 64, 3), (value, 0, 0), np.uint8))
    writer.release()
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = open_source(f"http://127.0.0.1:{server.server_port}/x.avi", patience=1)
        assert len(list(itertools.islice(found.frames, 7))) == 3
        server.shutdown()
    assert (found.live, found.count) == (False, 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("none.mp4", "there is no input"),
        ("camera:987", "camera:987 cannot be opened"),
        ("rtsp://me:secret@127.0.0.1:9/x", r"rtsp://\*\*\*@127.0.0.1:9/x cannot be opened"),
    ],
)
def test_what_is_not_there(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as raised:
        open_source(text)
    assert "secret" not in str(raised.value)


def test_a_number_names_no_camera_and_the_error_does() -> None:
    with pytest.raises(InputError, match="no name") as raised:
        open_source(1)  # type: ignore[arg-type]
    assert '"camera:1"' in str(raised.value.fix)
    for name in ("71", "/dev/video71"):
        with pytest.raises(InputError, match="no input") as raised:
            open_source(name)
        assert '"camera:71"' in str(raised.value.fix)


def test_a_path_will_do(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    assert open_source(tmp_path).count == 1


def test_a_jetson_s_camera_needs_gstreamer_and_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not re.search(r"GStreamer:\s+NO\b", cv2.getBuildInformation()):
        monkeypatch.setattr(source, "has_gstreamer", lambda: False)  # unlike pip's
    monkeypatch.setitem(sys.modules, "gi", None)
    gstreamer._library.cache_clear()
    with pytest.raises(InputError, match="GStreamer cannot be used") as raised:
        open_source("csi:0")
    assert "--system-site-packages" in str(raised.value)
    assert "nvarguscamerasrc sensor-id=2 !" in gstreamer.csi_pipeline(2)


def test_opencv_s_own_gstreamer_serves_where_pygobject_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    class Refuses:
        def isOpened(self) -> bool:
            return False

        def release(self) -> None:
            pass

    def capture(*arguments: object) -> Refuses:
        asked.append(arguments)
        return Refuses()

    monkeypatch.setattr(source.gstreamer, "is_there", lambda: False)
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda it: it == cv2.CAP_GSTREAMER)
    monkeypatch.setattr(cv2, "VideoCapture", capture)
    with pytest.raises(InputError, match="csi:1 cannot be opened"):
        open_source("csi:1")
    pipeline, backend = asked[0]
    assert backend == cv2.CAP_GSTREAMER
    assert str(pipeline).startswith("nvarguscamerasrc sensor-id=1") and "appsink" in str(pipeline)
