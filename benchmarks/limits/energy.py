"""Energy during a measurement, if the machine measures it: by RAPL, NVML or tegrastats."""

from __future__ import annotations

import time
from pathlib import Path

from hsnet_trt.runtime.device.telemetry import Telemetry

_RAPL = Path("/sys/class/powercap")


class EnergyMeter:
    """Joules from `__enter__` to `__exit__`: of a GPU or a Jetson's board, else of the processor.

    Idle power is included: the machine draws it while it does the work. `joules` and `source` are
    None if nothing measures energy here.
    """

    def __init__(self, rapl: Path = _RAPL) -> None:
        self._rapl = rapl
        self._telemetry = Telemetry()
        self._before: dict[Path, int] = {}
        self._start = 0.0
        self.source: str | None = None
        self.joules: float | None = None

    def __enter__(self) -> EnergyMeter:
        self._telemetry.__enter__()
        self._before = self._counters()
        self._start = time.monotonic()
        return self

    def __exit__(self, *exception: object) -> None:
        seconds = time.monotonic() - self._start
        after = self._counters()
        self._telemetry.__exit__(*exception)
        watts = self._telemetry.summary.get("watts")
        if watts is not None:
            self.source, self.joules = self._telemetry.source, watts * seconds
        elif self._before:
            self.source = "RAPL"
            self.joules = 1e-6 * sum(
                self._passed(path, count, after.get(path, count))
                for path, count in self._before.items()
            )

    def _counters(self) -> dict[Path, int]:
        """Microjoules of every processor package; most machines let only root read them."""
        found = {}
        for path in self._rapl.glob("*-rapl:[0-9]*"):
            if path.name.count(":") == 1:  # a package, not one of its parts
                try:
                    found[path] = int((path / "energy_uj").read_text())
                except (OSError, ValueError):
                    continue
        return found

    @staticmethod
    def _passed(path: Path, before: int, after: int) -> int:
        if after >= before:
            return after - before
        try:  # the counter wrapped around
            return after - before + int((path / "max_energy_range_uj").read_text())
        except (OSError, ValueError):
            return 0
