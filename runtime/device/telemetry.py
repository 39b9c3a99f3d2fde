"""Power, clock and temperature of the GPU during a run: from NVML, or tegrastats on a Jetson.

Both are optional; without either there are no figures and no error.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from typing import Any

_INTERVAL_S = 0.5


class Telemetry:
    """Samples twice a second inside a `with` block; read `summary` afterwards."""

    def __init__(self) -> None:
        self.source: str | None = None
        self._samples: list[dict[str, float]] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Telemetry:
        if nvml := _open_nvml():
            self.source = "NVML"
            self._start(lambda: self._ask_nvml(*nvml))
        elif path := shutil.which("tegrastats"):
            with contextlib.suppress(OSError):
                self._process = subprocess.Popen(
                    [path, "--interval", str(int(1000 * _INTERVAL_S))],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
                self.source = "tegrastats"
                self._start(self._read_tegrastats)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        if self._thread is not None:
            self._thread.join(timeout=2)
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def summary(self) -> dict[str, float]:
        """The mean `watts` and `gpu_mhz` and the highest `celsius`, as far as reported."""
        found = {}
        for name in ("watts", "gpu_mhz", "celsius"):
            values = [sample[name] for sample in self._samples if name in sample]
            if values:
                found[name] = max(values) if name == "celsius" else sum(values) / len(values)
        return found

    def _start(self, work: Any) -> None:
        self._thread = threading.Thread(target=work, name="hsnet-trt telemetry", daemon=True)
        self._thread.start()

    def _ask_nvml(self, nvml: Any, device: Any) -> None:
        asks: dict[str, Callable[[], Any]] = {
            "watts": lambda: nvml.nvmlDeviceGetPowerUsage(device) / 1000,
            "gpu_mhz": lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
            "celsius": lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
        }
        while True:
            sample = {}
            for name, ask in asks.items():
                with contextlib.suppress(nvml.NVMLError):  # not every card reports everything
                    sample[name] = float(ask())
            self._samples.append(sample)
            if self._stop.wait(_INTERVAL_S):
                break
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()

    def _read_tegrastats(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            self._samples.append(parse_tegrastats(line))


def parse_tegrastats(line: str) -> dict[str, float]:
    """The board's `watts`, the `gpu_mhz` and the GPU's `celsius` in a line of tegrastats.

    Boards differ: their power is VDD_IN (Orin Nano, NX), VIN, or the sum of all rails (AGX); the
    clock is GR3D_FREQ 61%@[611] or @611, or missing.
    """
    found = {}
    rails = {name: float(mw) / 1000 for name, mw in re.findall(r"(V\w+) (\d+)mW", line)}
    whole = next((rails[name] for name in ("VDD_IN", "VIN") if name in rails), None)
    if rails:
        found["watts"] = sum(rails.values()) if whole is None else whole
    if clock := re.search(r"GR3D_FREQ \d+%@\[?(\d+)", line):
        found["gpu_mhz"] = float(clock[1])
    if warm := re.search(r"\bgpu@(-?[\d.]+)C", line, re.IGNORECASE):
        found["celsius"] = float(warm[1])
    return found


def _open_nvml() -> tuple[Any, Any] | None:
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        return nvml, nvml.nvmlDeviceGetHandleByIndex(0)
    except nvml.NVMLError:
        nvml.nvmlShutdown()
        return None
