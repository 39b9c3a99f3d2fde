"""Where pictures go to: a window, a video file, a folder; on OpenCV."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.cli.shared.places import check_folder, check_installed
from hsnet_trt.errors import InputError, warn
from hsnet_trt.files import scratch_name
from hsnet_trt.runtime.cameras.capture import as_utf8

_VIDEOS = {".mp4", ".mkv", ".avi", ".mov"}
Picture = npt.NDArray[np.uint8]


class Window:
    """Shows pictures; Escape, q or closing it ends."""

    def __init__(self, title: str = "hsnet-trt") -> None:
        import cv2

        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise InputError(
                "no window can be shown",
                expected="opencv-python (not -headless) and a display",
                fix="pip uninstall opencv-python-headless, pip install opencv-python; "
                "or write a file: --output out.mp4",
            ) from error
        self._title = title

    def write(self, picture: Picture) -> bool:
        """Show it; False once the window is closed."""
        import cv2

        cv2.imshow(self._title, np.ascontiguousarray(picture[:, :, ::-1]))
        key = cv2.waitKey(1) & 0xFF
        return key not in (27, ord("q")) and bool(
            cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        )

    def close(self, *, keep: bool) -> None:
        """Close it."""
        import cv2

        cv2.destroyWindow(self._title)


class VideoFile:
    """Writes a video under a temporary name and renames it at the end."""

    def __init__(self, path: Path, rate: float) -> None:
        check_video(path)
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        self._path, self._rate = path, rate
        self._part = scratch_name(path)
        self._writer: Any = None
        self._size: tuple[int, int] | None = None  # width, height
        self._fitted = False
        self._frames = 0

    def write(self, picture: Picture) -> bool:
        """Add a picture. One of another size than the first is fitted into that, with black bars.

        Raises:
            InputError: this OpenCV writes no such files.

        Warns:
            HSNetWarning: the first time that a picture is fitted.
        """
        import cv2

        size = (picture.shape[1], picture.shape[0])
        if self._writer is None:
            codec = "MJPG" if self._path.suffix.lower() == ".avi" else "mp4v"
            fourcc = cv2.VideoWriter.fourcc(*codec)
            self._writer = cv2.VideoWriter(as_utf8(str(self._part)), fourcc, self._rate, size)
            self._size = size
            if not self._writer.isOpened():
                raise InputError(
                    f"{self._path} cannot be written", fix="write a folder: --output frames/"
                )
        assert self._size is not None
        if size != self._size:
            if not self._fitted:
                warn(
                    f"the frames changed their size from {self._size[0]} x {self._size[1]} to "
                    f"{size[0]} x {size[1]} pixels: a video has one size, so they are fitted into "
                    "the first (--output frames/ keeps each size)"
                )
                self._fitted = True
            picture = fit(picture, self._size)
        self._writer.write(np.ascontiguousarray(picture[:, :, ::-1]))
        self._frames += 1
        return True

    def close(self, *, keep: bool) -> None:
        """Finish the file, or leave what was there before.

        Raises:
            InputError: not all of it could be written, as on a full disk.
        """
        if self._writer is not None:
            self._writer.release()
        try:
            if keep and self._frames:
                self._check()
                self._part.replace(self._path)
        finally:
            if self._part.exists():
                self._part.unlink()

    def _check(self) -> None:
        """OpenCV says nothing of a write that failed, so the file is looked at."""
        import cv2

        written = cv2.VideoCapture(as_utf8(str(self._part)))
        found = int(written.get(cv2.CAP_PROP_FRAME_COUNT)) if written.isOpened() else 0
        written.set(cv2.CAP_PROP_POS_FRAMES, max(0, found - 2))  # its length may be off by one
        last, _ = written.read()
        written.release()
        if found < self._frames - 1 or not last:
            raise InputError(
                f"{self._path} could not be written whole",
                expected=f"{self._frames} frames that can be read again",
                found="a file that is cut off",
                fix="free some space, or choose a place on another disk",
            )


def fit(picture: Picture, size: tuple[int, int]) -> Picture:
    """The picture scaled to fit a size (width, height), in the middle, with black bars."""
    import cv2

    width, height = size
    scale = min(width / picture.shape[1], height / picture.shape[0])
    inner = (
        min(width, max(1, round(picture.shape[1] * scale))),
        min(height, max(1, round(picture.shape[0] * scale))),
    )
    shrinks = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    fitted = np.zeros((height, width, 3), np.uint8)
    scaled = cv2.resize(np.ascontiguousarray(picture), inner, interpolation=shrinks)
    fitted[top : top + inner[1], left : left + inner[0]] = scaled
    return fitted


class Folder:
    """Writes pictures 000000.jpg, 000001.jpg, ... into a folder."""

    def __init__(self, path: Path) -> None:
        check_folder(path, "--output")
        path.mkdir(parents=True, exist_ok=True)
        self._path, self._numbers = path, itertools.count()

    def write(self, picture: Picture) -> bool:
        """Write the next one."""
        from PIL import Image

        name = self._path / f"{next(self._numbers):06d}.jpg"
        Image.fromarray(picture).save(name, quality=92)
        return True

    def close(self, *, keep: bool) -> None:
        """Keep what was written."""


def check_sink(text: str) -> None:
    """Refuse an `--output` that could not be written, before the work; nothing is made.

    Raises:
        InputError: a folder or a file cannot be written there.
        ModuleNotFoundError: it takes OpenCV, which is not installed.
    """
    path = Path(text)
    if _is_folder(text):
        check_folder(path, "--output")
        return
    check_installed("cv2")
    if text != "window":
        check_video(path)


def check_video(path: Path) -> None:
    """Refuse what is no name of a video, or cannot be written.

    Raises:
        InputError: another suffix, a name that OpenCV cannot take, or the folder takes no file.
    """
    if path.suffix.lower() not in _VIDEOS:
        raise InputError(
            f"{path} is not a video file that can be written",
            expected=f"a name that ends in {', '.join(sorted(_VIDEOS))}",
        )
    as_utf8(str(path))
    check_folder(path.absolute().parent, "--output")


def open_sink(text: str, rate: float | None) -> Window | VideoFile | Folder:
    """Open what `--output` names: window, a video file, or a folder.

    Raises:
        InputError: it cannot be shown or written.
    """
    if text == "window":
        return Window()
    path = Path(text)
    return Folder(path) if _is_folder(text) else VideoFile(path, rate or 30.0)


def _is_folder(text: str) -> bool:
    path = Path(text)
    return text != "window" and (path.is_dir() or text.endswith(("/", os.sep)) or not path.suffix)
