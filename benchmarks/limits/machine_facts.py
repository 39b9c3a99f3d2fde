"""The machine and software that a figure was measured on, in the detail that a sceptic needs."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from hsnet_trt import __version__
from hsnet_trt.runtime.device.machine import (
    find_cpu,
    find_driver,
    find_jetson,
    host_memory,
    platform_tag,
    usable_cores,
)

_PACKAGES = (
    "torch", "onnxruntime", "onnxruntime-gpu", "numpy", "Pillow", "tensorrt", "tensorrt_rtx",
)  # fmt: skip
# Those of a processor's flags that decide how fast a network runs.
_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE")


def machine_facts() -> dict[str, Any]:
    """The machine and the software, as plain values for JSON, without personal data or paths."""
    driver = find_driver()
    memory = host_memory()
    return {
        "cpu": find_cpu(),
        "cores": usable_cores(),
        "instructions": _flags(),
        "mhz": _clocks(),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "virtual": "hypervisor" in _cpuinfo("flags").split(),
        "memory_gb": None if memory is None else round(memory / 1e9, 1),
        "jetson": find_jetson(),
        "gpus": [f"{gpu.name} ({gpu.memory_bytes / 2**30:.0f} GiB)" for gpu in driver.gpus],
        "cuda_driver": driver.cuda_version,
        "platform": f"{platform_tag()}, kernel {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "packages": {name: v for name in _PACKAGES if (v := _version(name))},
        "environment": {name: os.environ[name] for name in _THREADS if name in os.environ},
        "hsnet_trt": __version__,
        "revision": revision(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def revision() -> str | None:
    """The git revision of this source tree, with a + if it was changed; None outside a tree."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        if git("rev-parse", "--show-toplevel") != str(root):
            return None  # installed in somebody's environment, which may be in a repository
        found = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except OSError:
        return None
    return f"{found}{'+' if changed else ''}" if found else None


class Bystanders:
    """How much processor time other processes used during a measurement (Linux)."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._busy = _busy_seconds()

    def share(self, own_seconds: float) -> float | None:
        """Others' share of the time of all cores since the start, 0 to 1; None if not known.

        `own_seconds`: processor time of the measurement itself, children included.
        """
        now = _busy_seconds()
        if now is None or self._busy is None:
            return None
        available = (time.monotonic() - self._start) * (os.cpu_count() or 1)
        return min(1.0, max(0.0, (now - self._busy - own_seconds) / available))


def _busy_seconds() -> float | None:
    """Processor time of all processes, including what the host took away (steal)."""
    fields = (_first_line("/proc/stat") or "").split()
    if fields[:1] != ["cpu"]:
        return None
    user, nice, system, _idle, _wait, irq, softirq, steal = (int(n) for n in fields[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _flags() -> list[str]:
    there = {*_cpuinfo("flags").split(), *_cpuinfo("Features").split()}
    return [flag for flag in _FLAGS if flag in there]


def _clocks() -> str | None:
    """The current clock of the cores, in MHz."""
    found = [float(line.split(":")[1]) for line in _lines("/proc/cpuinfo") if "cpu MHz" in line]
    if not found:
        return None
    low, high = round(min(found)), round(max(found))
    return str(low) if low == high else f"{low} to {high}"


def _cpuinfo(key: str) -> str:
    for line in _lines("/proc/cpuinfo"):
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value
    return ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first_line(path: str) -> str | None:
    lines = _lines(path)
    return lines[0].strip() if lines else None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
