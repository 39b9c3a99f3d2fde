"""Power and clocks: lines as tegrastats writes them, and libraries that are fakes."""

from __future__ import annotations

import os
import sys
import time
import types
from pathlib import Path

import pytest

from hsnet_trt.runtime.device import telemetry
from hsnet_trt.runtime.device.telemetry import Telemetry, parse_tegrastats

ORIN_NANO = (
    "10-02-2024 12:00:00 RAM 2400/7620MB (lfb 4x4MB) SWAP 0/3810MB (cached 0MB) "
    "CPU [12%@1510,9%@1510] GR3D_FREQ 61%@[611] cpu@48.5C soc2@47.0C gpu@49.25C tj@49.25C "
    "VDD_IN 7350mW/7100mW VDD_CPU_GPU_CV 2900mW/2700mW VDD_SOC 1450mW/1440mW"
)
AGX = (
    "RAM 5000/30000MB CPU [1%@729] GR3D_FREQ 0% GPU@38C "
    "VDD_GPU_SOC 3200mW/3200mW VDD_CPU_CV 800mW/800mW VIN_SYS_5V0 4000mW/4000mW"
)


def test_lines_of_tegrastats() -> None:
    assert parse_tegrastats(ORIN_NANO) == {"watts": 7.35, "gpu_mhz": 611.0, "celsius": 49.25}
    assert parse_tegrastats(AGX) == {"watts": 8.0, "celsius": 38.0}
    assert parse_tegrastats("nonsense") == {}


def test_tegrastats_is_read_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "tegrastats"
    script.write_text(f"#!/bin/sh\nwhile true; do echo '{ORIN_NANO}'; sleep 0.05; done\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setitem(sys.modules, "pynvml", None)  # type: ignore[arg-type]
    with Telemetry() as running:
        end = time.monotonic() + 20
        while not running.summary and time.monotonic() < end:
            time.sleep(0.01)
    assert running.source == "tegrastats" and running.summary["watts"] == 7.35
    assert running._process is not None and running._process.returncode is not None


def test_nvml_tells_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = types.ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    def refuse(*_: object) -> float:
        raise NVMLError

    for name, value in {
        "NVMLError": NVMLError,
        "NVML_CLOCK_SM": 1,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetPowerUsage": lambda device: 71_500,
        "nvmlDeviceGetClockInfo": lambda device, kind: 1980,
        "nvmlDeviceGetTemperature": refuse,
    }.items():
        setattr(nvml, name, value)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with Telemetry() as running:
        pass
    assert running.summary == {"watts": 71.5, "gpu_mhz": 1980.0}


def test_nvml_without_a_gpu_is_closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml, calls = types.ModuleType("pynvml"), []

    class NVMLError(Exception):
        pass

    def refuse(index: int) -> None:
        raise NVMLError

    nvml.__dict__.update(
        NVMLError=NVMLError,
        nvmlInit=lambda: calls.append("init"),
        nvmlShutdown=lambda: calls.append("shutdown"),
        nvmlDeviceGetHandleByIndex=refuse,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(telemetry.shutil, "which", lambda name: None)
    with Telemetry() as running:
        pass
    assert running.source is None and calls == ["init", "shutdown"]


def test_where_nothing_tells_there_are_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_open_nvml", lambda: None)
    monkeypatch.setattr(telemetry.shutil, "which", lambda name: None)
    with Telemetry() as running:
        pass
    assert running.summary == {} and running.source is None
