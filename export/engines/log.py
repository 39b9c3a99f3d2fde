"""TensorRT's log and progress during a build, as events for the parent process."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

from hsnet_trt.export.engines.events import LogLine, PhaseEnded, PhaseStarted, Progress, StepDone

Emit = Callable[[Progress], None]

_MEMORY_LINE = re.compile(r"Total (Activation|Weights) Memory: (\d+) bytes")


def make_log(trt: Any, emit: Emit, verbose: bool) -> Any:
    """TensorRT's logger. Verbose lines (tens of thousands) are dropped unless `verbose`.

    Its `memory` collects the bytes of activations and weights that the builder logs.
    """
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
                emit(LogLine(line))

    return Log()


def make_monitor(trt: Any, emit: Emit) -> Any:
    """TensorRT's progress monitor; phases nest, and each has its steps."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            emit(PhaseStarted(phase_name, parent_phase, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            emit(StepDone(phase_name, step))
            return True

        def phase_finish(self, phase_name: str) -> None:
            emit(PhaseEnded(phase_name))

    return Monitor()
