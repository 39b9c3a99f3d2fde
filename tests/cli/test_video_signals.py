"""`hsnet-trt video` ended by a signal, while it records a camera or a file."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from PIL import Image

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("signals")
    make_bundle(path / "bundle")
    mask = np.zeros((96, 128), np.uint8)
    mask[20:70, 30:90] = 255
    Image.fromarray(mask).save(path / "mask.png")
    Image.fromarray(np.dstack([mask] * 3)).save(path / "red.png")
    return path


_ENDLESS = """
import itertools, pathlib, signal, sys, time
import numpy as np
from hsnet_trt.cli.main import main
from hsnet_trt.cli.shared.video_files import VideoFile
from hsnet_trt.runtime.cameras import source

def frames():
    for index in itertools.count():
        time.sleep(0.02)
        yield np.full((64, 96, 3), index % 200, np.uint8)

def write(self, picture, write=VideoFile.write):
    written = write(self, picture)
    pathlib.Path(sys.argv[-1] + ".begun").touch()
    return written

# A shell's jobs in the background inherit that SIGINT is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nor that of nohup
live = sys.argv.pop(1) == "live"
source.open_source = lambda *_, **__: source.FrameSource(frames(), live, None, 30.0)
VideoFile.write = write
main()
"""


_OPTIONS = ("--support", "red=red.png,mask.png", "--backend", "onnxruntime", "--no-steady")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("kind", ["live", "file"])
def test_a_signal_ends_it_and_keeps_what_a_camera_showed(
    folder: Path, tmp_path: Path, kind: str, name: str
) -> None:
    """Ctrl-C; SIGTERM of a service manager or a container; SIGHUP where a connection breaks."""
    target = tmp_path / "o.mp4"
    command = ["video", "bundle", *_OPTIONS, "--input", "x", "--output", str(target)]
    with subprocess.Popen(
        [sys.executable, "-c", _ENDLESS, kind, *command],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            begun = tmp_path / "o.mp4.begun"
            while not begun.exists():
                assert process.poll() is None, process.stderr
                time.sleep(0.05)
            number = signal.Signals[name]
            process.send_signal(number)
            shown = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    begun.unlink()
    if kind == "file":
        assert process.returncode == 128 + number and "stopped" in shown
        assert not list(tmp_path.iterdir())
        return
    assert process.returncode == 0, shown
    assert list(tmp_path.iterdir()) == [target]
    assert cv2.VideoCapture(str(target)).get(cv2.CAP_PROP_FRAME_COUNT) >= 1
