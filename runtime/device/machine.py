"""Facts about this machine: GPUs and driver, found without the CUDA toolkit, and the platform.

It needs only ctypes and system files, so it runs on a bare machine, and importing it loads nothing.
`python -m hsnet_trt.runtime.device.machine` prints the GPUs as JSON, for callers that want to query
a driver in a child process, in case the driver crashes.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

# CUDA driver API, `CUresult` and `CUdevice_attribute`.
_ATTRIBUTE_INTEGRATED = 18
_ATTRIBUTE_MAJOR = 75
_ATTRIBUTE_MINOR = 76
_MEANING = {
    3: "the driver is not initialised",
    34: "only a stub of the driver library is installed",
    100: "the driver sees no GPU",
    101: "the GPU asked for does not exist",
    802: "the GPU is not ready yet",
    803: "the driver library and the kernel module are of different versions (reboot)",
    804: "the compatibility library does not support this GPU",
    999: "the driver failed for an unknown reason (often: the device is not passed through)",
}


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver describes it."""

    index: int
    name: str
    compute_capability: str  # "8.9"
    memory_bytes: int
    integrated: bool  # shares its memory with the CPU, as on a Jetson

    @property
    def own_memory_bytes(self) -> int:
        """The bytes it can rely on: its own memory, or half of that shared with the CPU."""
        return self.memory_bytes // 2 if self.integrated else self.memory_bytes

    def limited(self, memory: int | None) -> Gpu:
        """The same GPU with at most `memory` bytes as its own; unchanged for None."""
        if memory is None or memory >= self.own_memory_bytes:
            return self
        return dataclasses.replace(self, memory_bytes=memory, integrated=False)


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver: the CUDA version it serves and its GPUs, or why there are none."""

    cuda_version: str | None
    gpus: tuple[Gpu, ...]
    problem: str | None = None


def find_driver() -> Driver:
    """Ask the NVIDIA driver for its GPUs, in the order CUDA numbers them.

    Never raises: without a driver or a GPU, `problem` tells why.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(name)
    except OSError:
        return Driver(None, (), f"the NVIDIA driver is not installed ({name} cannot be loaded)")
    version = ctypes.c_int(0)
    try:
        cuda.cuDriverGetVersion(ctypes.byref(version))
        cuda_version = f"{version.value // 1000}.{version.value % 1000 // 10}"
        status = cuda.cuInit(0)
        if status:
            meaning = _MEANING.get(status, "see CUresult in CUDA's documentation")
            return Driver(cuda_version, (), f"{meaning} (cuInit returned {status})")
        count = ctypes.c_int(0)
        cuda.cuDeviceGetCount(ctypes.byref(count))
        gpus = tuple(_describe_gpu(cuda, index) for index in range(count.value))
    except AttributeError as error:
        return Driver(None, (), f"{name} is not NVIDIA's driver: {error}")
    return Driver(cuda_version, gpus, None if gpus else _MEANING[100])


def _describe_gpu(cuda: ctypes.CDLL, index: int) -> Gpu:
    device = ctypes.c_int(0)
    cuda.cuDeviceGet(ctypes.byref(device), index)
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGetName(name, len(name), device)
    memory = ctypes.c_size_t(0)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    numbers = []
    for attribute in (_ATTRIBUTE_MAJOR, _ATTRIBUTE_MINOR, _ATTRIBUTE_INTEGRATED):
        value = ctypes.c_int(0)
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        numbers.append(value.value)
    return Gpu(
        index=index,
        name=name.value.decode("utf-8", "replace"),
        compute_capability=f"{numbers[0]}.{numbers[1]}",
        memory_bytes=memory.value,
        integrated=bool(numbers[2]),
    )


def find_jetson(root: Path = Path("/")) -> str | None:
    """The name of this Jetson, with its L4T release if known; None if it is not a Jetson."""
    model = _first_line(root / "proc/device-tree/model") or ""
    release = _first_line(root / "etc/nv_tegra_release") or ""
    if "jetson" not in model.lower() and not release:
        return None
    parts = release.replace("# ", "").split(",")
    tag = ", ".join(part.strip() for part in parts[:2]) if release else ""
    return f"{model or 'a Jetson'}{f' (L4T {tag})' if tag else ''}"


def platform_tag() -> str:
    """Operating system and architecture, which engines are built for: "linux-x86_64"."""
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    return f"{platform.system().lower()}-{machine}"


def find_cpu() -> str:
    """The processor's name, or its architecture if the system does not tell."""
    for line in _lines(Path("/proc/cpuinfo")):
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def multiplies_int8_exactly() -> bool:
    """Whether the processor can sum products of UINT8 and INT8 without saturation.

    On x86 only VNNI instructions can; older ones saturate at 16 bits. False if an x86 system does
    not list its instructions.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    flags = next((line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("flags")), "")
    return "vnni" in flags


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def host_memory() -> int | None:
    """The machine's memory in bytes; None if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def has_nvidia_card(root: Path = Path("/")) -> bool | None:
    """Whether an NVIDIA device is on the PCI bus; None if the bus cannot be read."""
    devices = root / "sys/bus/pci/devices"
    if not devices.is_dir():
        return None
    return any(_first_line(path) == "0x10de" for path in devices.glob("*/vendor"))


def _first_line(path: Path) -> str | None:
    lines = _lines(path)
    return lines[0].strip("\0 \n") if lines else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(find_driver())))
