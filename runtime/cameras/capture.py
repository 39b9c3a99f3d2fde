"""The interface of frame readers, and the error of a lost source."""

from __future__ import annotations

import os
import re
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import InputError

Picture: TypeAlias = npt.NDArray[np.uint8]

_SECRET = re.compile(
    r"""((?:^|[\s?&])[\w-]*(?:pw|passw(?:or)?d|passphrase)\s*=\s*)("[^"]*"|'[^']*'|[^\s&]+)""", re.I
)


class CaptureLost(InputError):
    """A live source stopped delivering frames."""


class Capture(Protocol):
    """An open reader of frames."""

    @property
    def live(self) -> bool:
        """Whether frames come in real time, as from a camera, and are lost if not read."""
        ...

    @property
    def rate(self) -> float | None:
        """Frames per second; None if unknown."""
        ...

    @property
    def count(self) -> int | None:
        """How many frames there are; None if unknown."""
        ...

    def read(self) -> Picture | None:
        """The next frame, uint8 [H,W,3] BGR; None after the last.

        Raises:
            CaptureLost: a live source stopped.
            InputError: a file cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Release the device; harmless when repeated."""
        ...


def as_utf8(text: str) -> str:
    """The name of a file or source as OpenCV and GStreamer take it.

    OpenCV ends the process where a name cannot be encoded in UTF-8. Python represents such names,
    and where the locale is not UTF-8 all that are not ASCII, by surrogates.

    Raises:
        InputError: its bytes are not UTF-8.
    """
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError as error:
        raise InputError(
            f"{without_password(text)} has a name that OpenCV and GStreamer cannot take",
            expected="a name in UTF-8",
            found=repr(text),
            fix="rename the file",
        ) from error


def without_password(text: str) -> str:
    """A name or pipeline without credentials: `rtsp://user:secret@host` as `rtsp://***@host`.

    Also without the values of `user-pw=`, `passphrase=`, `password=` and the like.
    """
    return _SECRET.sub(r"\1***", re.sub(r"(?<=://)[^/\s]*@", "***@", text))
