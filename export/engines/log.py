"""What TensorRT says while it builds, and how far it is, as events for the caller."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

Emit = Callable[[dict[str, Any]], None]

_MEMORY_LINE = re.compile(r"Total (Activation|Weights) Memory: (\d+) bytes")


def make_log(trt: Any, emit: Emit, verbose: bool) -> Any:
    """TensorRT's logger. Verbose lines number tens of thousands: kept only when asked for."""
    quiet = {trt.ILogger.VERBOSE} if not verbose else set()

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.memory: dict[str, int] = {}

        def log(self, severity: Any, text: str) -> None:
            found = _MEMORY_LINE.search(text)
            if found:
                self.memory[found.group(1).lower()] = int(found.group(2))
            if severity in quiet:
                return
            line = f"{severity.name}: {text}"
            print(line, file=sys.stderr, flush=True)
            if verbose:
                emit({"event": "log", "text": line})

    return Log()


def make_monitor(trt: Any, emit: Emit) -> Any:
    """The builder's progress: phases nest, each with its steps."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            emit(
                {"event": "phase", "phase": phase_name, "parent": parent_phase, "steps": num_steps}
            )

        def step_complete(self, phase_name: str, step: int) -> bool:
            emit({"event": "step", "phase": phase_name, "step": step})
            return True

        def phase_finish(self, phase_name: str) -> None:
            emit({"event": "phase_end", "phase": phase_name})

    return Monitor()
