"""Reports of a training run: a progress bar, a log, and scalars for TensorBoard."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from hsnet_trt.files import replacing

LOG = "log.jsonl"
_EVERY = 15.0  # seconds between two lines without a terminal


class Bar(Protocol):
    """Shows how far a run is."""

    def update(self, step: int, total: int, figures: str) -> None:
        """Show that `step` of `total` is done; with a time budget both are seconds."""
        ...

    def note(self, text: str) -> None:
        """Show a line above the bar that stays."""
        ...

    def close(self) -> None:
        """Remove the bar."""
        ...


class Lines:
    """Progress as lines, one every 15 seconds: for logs, and if rich is not installed."""

    def __init__(self, write: Callable[[str], None] | None = None) -> None:
        self._write = write or (lambda text: print(text, file=sys.stderr, flush=True))
        self._last = -_EVERY

    def update(self, step: int, total: int, figures: str) -> None:
        now = time.monotonic()
        if now - self._last >= _EVERY or step == total:
            self._last = now
            self._write(f"{step}/{total}  {figures}")

    def note(self, text: str) -> None:
        self._write(text)

    def close(self) -> None:
        pass


class RichBar:
    """Progress as a bar in a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=Console(stderr=True, markup=False, emoji=False),
        )
        self._task = self._bar.add_task("")
        self._bar.start()

    def update(self, step: int, total: int, figures: str) -> None:
        self._bar.update(self._task, completed=step, total=total, description=figures)

    def note(self, text: str) -> None:
        self._bar.console.print(text, highlight=False)

    def close(self) -> None:
        self._bar.stop()


def open_bar() -> Bar:
    """A bar in a terminal if rich is installed, otherwise lines."""
    if sys.stderr.isatty():
        try:
            return RichBar()
        except ModuleNotFoundError:
            pass
    return Lines()


class Journal:
    """The figures of a run: OUT/log.jsonl, and TensorBoard's files if it is installed."""

    def __init__(self, out: Path, step: int) -> None:
        """Continue after `step`: log lines of later steps, from an interrupted run, are removed."""
        self._path = out / LOG
        kept = []
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line)
                except (ValueError, KeyError, TypeError):
                    continue  # a line that was cut off when the run was killed
        with replacing(self._path) as scratch:
            scratch.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._file = self._path.open("a", encoding="utf-8")
        self.missing = ""  # the package to install for TensorBoard
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
        except ModuleNotFoundError:
            self.missing = "tensorboard"

    def write(self, step: int, **figures: float) -> None:
        """Add the figures of one step."""
        rounded = {name: float(f"{value:.6g}") for name, value in figures.items()}
        self._file.write(json.dumps({"step": step, **rounded}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()
