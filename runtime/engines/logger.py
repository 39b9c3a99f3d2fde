"""TensorRT's messages, in Python's logging and as the cause in our own errors.

TensorRT registers the first logger with which a process creates a runtime, and warns of or ignores
any other one. So all runners share one logger, which is never freed.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

_log = logging.getLogger("hsnet_trt.tensorrt")
_made: dict[Any, Any] = {}  # by the library's ILogger class
_lock = threading.Lock()


def shared_logger(trt: Any) -> Any:
    """The process's logger for `tensorrt` or `tensorrt_rtx`; several threads may use it.

    Its `take_error()` returns and clears the latest error of this thread's calls; None if there is
    none. If the application created a runtime with its own logger before, TensorRT may not use this
    one, and `take_error()` then returns None.
    """
    with _lock:
        if trt.ILogger not in _made:
            _made[trt.ILogger] = _make_logger(trt)
        return _made[trt.ILogger]


def _make_logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._latest = threading.local()  # TensorRT logs in the thread of the call

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self._latest.error = message
                _log.error(message)
            elif severity == trt.ILogger.Severity.WARNING:
                _log.warning(message)
            else:
                _log.debug(message)

        def take_error(self) -> str | None:
            found: str | None = self._latest.__dict__.pop("error", None)
            return found

    return Logger()
