"""Recordings are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hsnet_trt.cli.shared.video_files import VideoFile
from hsnet_trt.errors import InputError

pytest.importorskip("cv2")


def test_a_recording_that_fails_leaves_the_older_one(tmp_path: Path) -> None:
    target = tmp_path / "o.mp4"
    target.write_bytes(b"older")
    sink = VideoFile(target, 30)
    sink.write(np.zeros((32, 48, 3), np.uint8))
    sink.close(keep=False)
    assert target.read_bytes() == b"older" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
@pytest.mark.parametrize("frames", [9, 40])
def test_a_recording_that_was_cut_off_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, frames: int
) -> None:
    """As on a full disk, of which OpenCV says nothing."""
    pictures = np.random.default_rng(0).integers(0, 256, (frames, 96, 128, 3), np.uint8)
    target = tmp_path / f"o{suffix}"

    def record() -> VideoFile:
        sink = VideoFile(target, 30)
        for picture in pictures:
            sink.write(picture)
        return sink

    record().close(keep=True)
    whole = target.read_bytes()
    sink = record()
    sink._writer.release()
    (part,) = set(tmp_path.iterdir()) - {target}
    part.write_bytes(whole[: len(whole) * 3 // 5])
    monkeypatch.setattr(sink, "_writer", None)
    with pytest.raises(InputError, match="could not be written whole"):
        sink.close(keep=True)
    assert list(tmp_path.iterdir()) == [target] and target.read_bytes() == whole
