"""The result file of a GPU check, rewritten atomically after each part."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hsnet_trt.errors import HSNetError
from hsnet_trt.files import replacing


class GpuReport:
    """The figures of one `make gpu-check`, with a time budget."""

    def __init__(self, file: Path, budget_s: float, reserve_s: float = 30, **facts: Any) -> None:
        """Start the clock.

        Args:
            file: the JSON to write.
            budget_s: seconds for all checks.
            reserve_s: a check is skipped if fewer seconds are left.
            facts: what is known before anything is measured.
        """
        self._file, self._budget, self._start = file, budget_s, time.monotonic()
        self._reserve = reserve_s
        self.content: dict[str, Any] = facts
        self.failed = False

    @property
    def left(self) -> float:
        """Seconds left of the budget."""
        return self._budget - (time.monotonic() - self._start)

    def run(self, name: str, check: Callable[[], dict[str, Any]]) -> None:
        """Run a check and store its result, or why it failed or was skipped."""
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
        """Write everything known so far."""
        self.content["seconds"] = round(time.monotonic() - self._start, 1)
        with replacing(self._file) as scratch:
            scratch.write_text(json.dumps(self.content, indent=2) + "\n")
