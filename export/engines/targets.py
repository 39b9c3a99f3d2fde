"""The machines an engine can be built for: NVIDIA's published figures, and flavours of TensorRT.

Rates are peaks without sparsity at boost clock, in TFLOPS (TOPS for int8): fp32 on the CUDA cores;
tf32, fp16 and int8 on the tensor cores, fp16 with FP32 accumulation (which GeForce cards do at half
the rate of FP16 accumulation). None if NVIDIA publishes no figure. The table names its sources.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any

from hsnet_trt.errors import BuildError, InputError
from hsnet_trt.runtime.device.machine import Driver
from hsnet_trt.runtime.engines.compatibility import PORTABLE_COVERS

TENSORRT = "tensorrt"
TENSORRT_RTX = "tensorrt_rtx"

# TensorRT for RTX, `ComputeCapability` and the page "CPU-Only AOT and TensorRT-RTX Engines".
RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
# TensorRT 10 support matrix, without Jetsons: what hardware compatibility "ampere-plus" covers.
AMPERE_PLUS = ("8.0", "8.6", "8.9", "9.0", "10.0", "10.3", "12.0", "12.1")
JETSON_CAPABILITIES = ("8.7", "11.0")
_OLDEST = (7, 5)


@dataclass(frozen=True)
class Target:
    """A machine to build for. Unknown figures are None."""

    name: str
    title: str
    compute_capability: str | None  # such as "8.9"; None for `portable`, which covers several
    flavours: tuple[str, ...]  # those that support it, the preferred one first
    memory_gib: float | None = None
    bandwidth: float | None = None  # GB/s
    fp32: float | None = None  # TFLOPS
    tf32: float | None = None
    fp16: float | None = None
    int8: float | None = None  # TOPS

    @property
    def jetson(self) -> bool:
        """Whether it is a Jetson, where engines are built on the device with JetPack's TensorRT."""
        return self.compute_capability in JETSON_CAPABILITIES

    @property
    def memory_bytes(self) -> int | None:
        """The memory in bytes; on a Jetson it is shared with the CPU."""
        return None if self.memory_gib is None else int(self.memory_gib * 2**30)


_JETSON: tuple[str, ...] = (TENSORRT,)
_SERVER: tuple[str, ...] = (TENSORRT, TENSORRT_RTX)
_CARD: tuple[str, ...] = (TENSORRT_RTX, TENSORRT)

# name, title, compute capability, flavours, GiB, GB/s, fp32, tf32, fp16, int8
_TABLE: tuple[tuple[Any, ...], ...] = (
    # Jetson Orin Nano / Orin NX / AGX Orin Series Data Sheets and "Jetson AGX Orin Series Technical
    # Brief" v1.2 (GPU only, without the deep-learning accelerators; int8 is half the sparse rate).
    # Orin Nano and NX in their "Super" power modes (JetPack 6.2).
    ("orin-nano-8gb", "Jetson Orin Nano 8GB", "8.7", _JETSON, 8, 102, None, None, 17, 33),
    ("orin-nano-4gb", "Jetson Orin Nano 4GB", "8.7", _JETSON, 4, 51, None, None, None, 17),
    ("orin-nx-16gb", "Jetson Orin NX 16GB", "8.7", _JETSON, 16, 102, None, None, None, None),
    ("orin-nx-8gb", "Jetson Orin NX 8GB", "8.7", _JETSON, 8, 102, None, None, None, None),
    (
        "agx-orin-32gb",
        "Jetson AGX Orin 32GB",
        "8.7",
        _JETSON,
        32,
        204.8,
        3.3,
        None,
        None,
        54,
    ),
    ("agx-orin-64gb", "Jetson AGX Orin 64GB", "8.7", _JETSON, 64, 204.8, 5.3, None, 42.5, 85),
    # Jetson Thor Series data sheet; its rates are published for FP4 and FP8 alone.
    ("agx-thor", "Jetson T5000 (AGX Thor)", "11.0", _JETSON, 128, 273, None, None, None, None),
    # NVIDIA T4 / A100 / L4 / H100 / H200 data sheets (A100: 80 GB SXM; H100, H200: SXM).
    ("t4", "T4", "7.5", _SERVER, 16, 320, 8.1, None, 65, 130),
    ("a100", "A100 80GB", "8.0", _SERVER, 80, 2039, 19.5, 156, 312, 624),
    ("l4", "L4", "8.9", _SERVER, 24, 300, 30.3, 60, 121, 242),
    ("h100", "H100", "9.0", (TENSORRT,), 80, 3350, 67, 494.5, 989.5, 1979),
    ("h200", "H200", "9.0", (TENSORRT,), 141, 4800, 67, 494.5, 989.5, 1979),
    # "NVIDIA Turing GPU Architecture" white paper, appendix A (reference clocks).
    ("rtx-2080", "GeForce RTX 2080", "7.5", _CARD, 8, 448, 10.1, None, 40.3, 161.1),
    ("rtx-2080ti", "GeForce RTX 2080 Ti", "7.5", _CARD, 11, 616, 13.4, None, 53.8, 215.2),
    # "NVIDIA Ampere GA102 GPU Architecture" white paper, appendix A.
    ("rtx-3070", "GeForce RTX 3070", "8.6", _CARD, 8, 448, 20.3, 20.3, 40.6, 162.6),
    ("rtx-3080", "GeForce RTX 3080 10GB", "8.6", _CARD, 10, 760, 29.8, 29.8, 59.5, 238),
    ("rtx-3090", "GeForce RTX 3090", "8.6", _CARD, 24, 936, 35.6, 35.6, 71, 284),
    # "NVIDIA Ada GPU Architecture" white paper, appendix A; RTX 4060: its product page alone.
    ("rtx-4060", "GeForce RTX 4060", "8.9", _CARD, 8, 272, 15, None, None, None),
    ("rtx-4080", "GeForce RTX 4080", "8.9", _CARD, 16, 716.8, 48.7, 48.7, 97.5, 389.9),
    ("rtx-4090", "GeForce RTX 4090", "8.9", _CARD, 24, 1008, 82.6, 82.6, 165.2, 660.6),
    # "NVIDIA RTX Blackwell GPU Architecture" white paper, appendix A.
    ("rtx-5070", "GeForce RTX 5070", "12.0", _CARD, 12, 672, 30.9, 30.9, 61.7, 246.9),
    ("rtx-5080", "GeForce RTX 5080", "12.0", _CARD, 16, 960, 56.3, 56.3, 112.6, 450.2),
    ("rtx-5090", "GeForce RTX 5090", "12.0", _CARD, 32, 1792, 104.8, 104.8, 209.5, 838),
)

TARGETS: dict[str, Target] = {row[0]: Target(*row) for row in _TABLE}

PORTABLE = Target(
    "portable",
    f"RTX cards from the 30 series on (compute capability {PORTABLE_COVERS})",
    None,
    (TENSORRT_RTX,),
)


def find_target(name: str, driver: Driver | None = None) -> Target:
    """The target of that name: one of `TARGETS`, `portable`, `smNN`, or `this`.

    Args:
        name: as the user gave it; case does not matter.
        driver: the GPUs of this machine, needed only for `this`.

    Raises:
        InputError: no such target, or a GPU that TensorRT no longer supports.
        BuildError: `this`, but there is no GPU here.
    """
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-")
    if wanted in TARGETS:
        return TARGETS[wanted]
    if wanted == PORTABLE.name:
        return PORTABLE
    if wanted == "this":
        return _this_machine(driver)
    architecture = re.fullmatch(r"sm-?([0-9]{2,3})", wanted)
    if architecture:
        digits = architecture.group(1)
        return _by_capability(f"{int(digits[:-1])}.{digits[-1]}")
    names = [*TARGETS, PORTABLE.name, "this"]
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    raise InputError(
        f"there is no target called {name!r}",
        expected=f"{', '.join(names)}, or an architecture as in sm86",
        fix=f"did you mean {near[0]}?"
        if near
        else "name the GPU's architecture, as in sm89; on the machine itself, `this`",
    )


def _by_capability(
    capability: str, title: str | None = None, memory: float | None = None
) -> Target:
    major, minor = (int(part) for part in capability.split("."))
    if (major, minor) < _OLDEST:
        raise InputError(
            f"TensorRT does not support compute capability {capability}",
            expected="7.5 (Turing) or later",
            fix="run the bundle there with ONNX Runtime",
        )
    if capability in JETSON_CAPABILITIES:
        flavours = _JETSON
    elif capability in RTX_CAPABILITIES:
        flavours = _CARD
    else:
        flavours = _SERVER[:1]
    name = f"sm{major}{minor}"
    return Target(name, title or f"compute capability {capability}", capability, flavours, memory)


def _this_machine(driver: Driver | None) -> Target:
    if driver is None or not driver.gpus:
        raise BuildError(
            "this machine has no GPU to build for",
            found=driver.problem if driver else None,
            fix="name the target instead (`--target rtx-4090`, `--target portable`); "
            "`hsnet-trt doctor` shows what is missing here",
        )
    gpu = driver.gpus[0]
    return _by_capability(gpu.compute_capability, gpu.name, gpu.memory_bytes / 2**30)
