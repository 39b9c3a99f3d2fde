"""The errors that people meet: one family, each with a summary, the details and the fix."""

from __future__ import annotations

import sys
import warnings


class HSNetError(Exception):
    """What went wrong, what was expected against what was found, and what mends it.

    Args:
        summary: one sentence that says what happened.
        expected: what would have been right.
        found: what was there instead.
        fix: what to do next, as an instruction; left out where `expected` says it.
    """

    def __init__(
        self,
        summary: str,
        *,
        expected: object | None = None,
        found: object | None = None,
        fix: str | None = None,
    ) -> None:
        self.summary = summary
        self.expected = None if expected is None else str(expected)
        self.found = None if found is None else str(found)
        self.fix = fix
        super().__init__(summary)

    def __str__(self) -> str:
        rows = [("expected", self.expected), ("found", self.found), ("fix", self.fix)]
        return "\n".join(
            [self.summary, *(f"  {name + ':':<10}{text}" for name, text in rows if text)]
        )


class CheckpointError(HSNetError):
    """A checkpoint cannot be read, or does not fit the network."""


class ExportError(HSNetError):
    """A graph could not be exported, or an exported graph is not right."""


class BundleError(HSNetError):
    """A bundle is missing, damaged, altered, or made for something else."""


class BuildError(HSNetError):
    """An engine could not be built."""


class BackendError(HSNetError):
    """No engine can be run here, or a running one failed."""


class InputError(HSNetError):
    """An image, a mask or an argument is not what it should be."""


class HSNetWarning(UserWarning):
    """Something works, but probably not as it was meant."""


# Frames that a warning never points at: this package's, and those that run it for a caller.
_SKIPPED = {"hsnet_trt", "asyncio", "concurrent", "contextlib", "functools", "threading"}


def warn(message: str) -> None:
    """Issue an `HSNetWarning` that points at the caller's line, the nearest outside this package.

    In a thread of this package, which has no caller, it points at the line that warns.
    """
    frame = here = sys._getframe(1)
    while str(frame.f_globals.get("__name__")).partition(".")[0] in _SKIPPED:
        if frame.f_back is None:
            frame = here
            break
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        HSNetWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__"),
        frame.f_globals.setdefault("__warningregistry__", {}),
    )
