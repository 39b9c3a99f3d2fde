"""What a check on a GPU found, on disk after each part, whole at every moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hsnet_trt.errors import HSNetError


class GpuReport:
    """The figures of one `make gpu-check`, within a budget of time."""

    def __init__(self, file: Path, budget_s: float, reserve_s: float = 30, **facts: Any) -> None:
        """Begin to count the time.

        Args:
            file: the JSON to write.
            budget_s: seconds for all checks.
            reserve_s: with fewer seconds left, a check is not begun.
            facts: what is known before anything is measured.
        """
        self._file, self._budget, self._start = file, budget_s, time.monotonic()
        self._reserve = reserve_s
        self.content: dict[str, Any] = facts
        self.failed = False

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self._budget - (time.monotonic() - self._start)

    def run(self, name: str, check: Callable[[], dict[str, Any]]) -> None:
        """Do a check and write down what it found, or why it could not be done."""
        if self.left < self._reserve:
            self.content[name] = {"skipped": "no time was left"}
        else:
            try:
                self.content[name] = check()
            except HSNetError as error:
                self.content[name] = {"wrong": [str(error)]}
            except Exception as error:  # noqa: BLE001  (one broken check must not end the others)
                self.content[name] = {"wrong": [f"{type(error).__name__}: {error}"]}
        self.failed |= bool(self.content[name].get("wrong"))
        self.write()
        print(f"{name}: {json.dumps(self.content[name])}", flush=True)

    def write(self) -> None:
        """Write down all that is known so far."""
        self.content["seconds"] = round(time.monotonic() - self._start, 1)
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(self.content, indent=2) + "\n")
        part.replace(self._file)
