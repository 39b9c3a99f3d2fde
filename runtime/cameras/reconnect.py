"""A live source that goes away is opened again, for so long."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event

from hsnet_trt.errors import HSNetWarning, InputError
from hsnet_trt.runtime.cameras.capture import Capture, CaptureLost, Picture

_PAUSES = (0.1, 0.25, 0.5, 1.0, 2.0)  # seconds between two attempts; then the last of them


def frames(
    capture: Capture,
    name: str,
    open_again: Callable[[], Capture],
    patience: float,
    ended: Event | None = None,
) -> Iterator[Picture]:
    """The frames of a capture, and of those that follow when it is lost. Closes what it reads.

    Args:
        capture: what is open.
        name: how messages call it.
        open_again: opens it anew; raises InputError where it cannot.
        patience: the longest time without a frame, in seconds; 0 ends at the first loss.
        ended: where it is set, a source that was lost is not waited for any longer.

    Raises:
        InputError: it did not come back in that time.

    Warns:
        HSNetWarning: it went away; and again when it is back.
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
    """The source, open again, and its first frame: one that opens and stays silent is not back.

    None where nobody wants it any more.
    """
    start, attempt, reason = time.monotonic(), 0, lost.found or lost.summary
    warnings.warn(
        f"{name} went away ({reason}): trying for {patience:g} s to open it again",
        HSNetWarning,
        stacklevel=3,
    )
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
            with suppress(HSNetWarning):  # as an error it must not lose the frame
                warnings.warn(f"{name} is back after {spent:.1f} s", HSNetWarning, stacklevel=3)
            return capture, picture
        if time.monotonic() - start > patience:
            raise InputError(
                f"{name} went away and did not come back",
                expected=f"a frame within {patience:g} s",
                found=f"{attempt} attempts, the last: {reason}",
                fix="check its cable, power and network; a longer time: --reconnect SECONDS",
            )
