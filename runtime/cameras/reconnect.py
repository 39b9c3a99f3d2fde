"""Reopening a live source that is lost, for a limited time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event

from hsnet_trt.errors import HSNetWarning, InputError, warn
from hsnet_trt.runtime.cameras.capture import Capture, CaptureLost, Picture

_PAUSES = (0.1, 0.25, 0.5, 1.0, 2.0)  # seconds before each attempt; the last one repeats


def frames(
    capture: Capture,
    name: str,
    open_again: Callable[[], Capture],
    patience: float,
    ended: Event | None = None,
) -> Iterator[Picture]:
    """The frames of a capture, which is reopened when it is lost, and closed at the end.

    Args:
        capture: an open capture.
        name: names it in messages.
        open_again: opens it again; raises InputError if it cannot.
        patience: how long to try to reopen it, in seconds; 0 ends the frames at the first loss.
        ended: when set, a lost source is not waited for any longer.

    Raises:
        InputError: it did not come back in that time, or a file cannot be decoded.

    Warns:
        HSNetWarning: the source was lost, or is back.
    """
    try:
        while True:
            try:
                picture = capture.read()
            except CaptureLost as lost:
                capture.close()
                if patience <= 0:
                    return
                back = _wait(name, open_again, patience, lost, ended or Event())
                if back is None:
                    return
                capture, picture = back
            if picture is None:
                return
            yield picture
    finally:
        capture.close()


def _wait(
    name: str,
    open_again: Callable[[], Capture],
    patience: float,
    lost: CaptureLost,
    ended: Event,
) -> tuple[Capture, Picture | None] | None:
    """Reopen the source and read a frame: a source that opens but stays silent is not back.

    Returns:
        The capture and its first frame; None if `ended` was set.
    """
    start, attempt, reason = time.monotonic(), 0, lost.found or lost.summary
    warn(f"{name} went away ({reason}): trying for {patience:g} s to open it again")
    while True:
        if ended.wait(_PAUSES[min(attempt, len(_PAUSES) - 1)]):
            return None
        attempt += 1
        try:
            capture = open_again()
            try:
                picture = capture.read()
            except BaseException:
                capture.close()
                raise
        except InputError as error:
            reason = str(error.found or error.summary)
        else:
            spent = time.monotonic() - start
            with suppress(HSNetWarning):  # where warnings are errors, keep the frame
                warn(f"{name} is back after {spent:.1f} s")
            return capture, picture
        if time.monotonic() - start > patience:
            raise InputError(
                f"{name} went away and did not come back",
                expected=f"a frame within {patience:g} s",
                found=f"{attempt} attempts, the last: {reason}",
                fix="check its cable, power and network; a longer time: --reconnect SECONDS",
            )
