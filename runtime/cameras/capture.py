"""What every reader of frames does, and what it says when no more come."""

from __future__ import annotations

import re
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import InputError

Picture: TypeAlias = npt.NDArray[np.uint8]


class CaptureLost(InputError):
    """A live source stopped giving frames, though nobody ended it."""


class Capture(Protocol):
    """An open reader of frames."""

    @property
    def live(self) -> bool:
        """Whether the frames come from a camera, which does not wait."""
        ...

    @property
    def rate(self) -> float | None:
        """Frames a second; None if that is not known."""
        ...

    @property
    def count(self) -> int | None:
        """How many frames there are; None if that is not known."""
        ...

    def read(self) -> Picture | None:
        """The next frame, uint8 [H,W,3] BGR; None after the last.

        Raises:
            CaptureLost: a live source stopped.
            InputError: a file cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Let go of the device; harmless when repeated."""
        ...


def without_password(text: str) -> str:
    """A name or pipeline as it may be shown: `rtsp://user:secret@host` as `rtsp://***@host`."""
    return re.sub(r"(?<=://)[^/@\s]*@", "***@", text)
