"""``make gpu-check PART=runtime``: the runtime on a real GPU, in under 8 minutes.

Runs from the source tree with pycuda or cuda-bindings (both are checked if both are installed) and
nvcc. It needs no TensorRT: kernels of fixed duration stand in for engines. With TensorRT and
``BUNDLE=folder`` of a bundle with engines for this machine, these are verified, too. The figures go
into ``$OUT/runtime.json`` (``build/gpu_check`` without ``OUT``), rewritten after each check. It
ends with 1 if something is wrong; a missed target is printed, but is no error. Without a GPU it
says so, and ends with 0.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hsnet_trt.benchmarks.gpu_check.frame_parts import in_words
from hsnet_trt.benchmarks.gpu_check.report import GpuReport
from hsnet_trt.benchmarks.gpu_check.runtime_kernels import check_kernels
from hsnet_trt.benchmarks.gpu_check.runtime_loop import (
    compile_spin,
    long_run,
    measure_loop,
    show_overlap,
)
from hsnet_trt.benchmarks.gpu_check.runtime_memory import check_memory
from hsnet_trt.errors import HSNetError
from hsnet_trt.runtime.device.driver import Cuda, has
from hsnet_trt.runtime.device.machine import find_driver
from hsnet_trt.runtime.frames import frame_kernels
from hsnet_trt.trt_plugins import nvcc

BUDGET_S = 420.0
ALONE_MS = 0.4  # target: time of a single frame beyond the engines
LIBRARIES = {
    "pycuda": ("pycuda", "driver_pycuda", "PycudaDriver"),
    "cuda-bindings": ("cuda.bindings", "driver_bindings", "BindingsDriver"),
}


def check_library(
    report: GpuReport, library: str, open_it: Callable[[], Cuda], out: Path, arch: int
) -> None:
    """All checks of one CUDA library."""
    cuda = open_it()
    try:
        image = nvcc.compile_fatbin(
            frame_kernels.SOURCE, out / "frames.fatbin", [arch]
        ).read_bytes()
        spin = compile_spin(out, arch)
        report.run(f"{library}: memory", lambda: check_memory(cuda))
        report.run(f"{library}: kernels", lambda: check_kernels(cuda, image))
        report.run(f"{library}: overlap", lambda: show_overlap(cuda, image, spin))
        report.run(f"{library}: loop", lambda: measure_loop(cuda, image, spin))
        report.run(f"{library}: long run", lambda: long_run(cuda, image, spin))
    finally:
        cuda.close()
        for name in ("frames.fatbin", "spin.cu", "spin.fatbin"):
            (out / name).unlink(missing_ok=True)


def check_engines(bundle: str, flavour: str) -> dict[str, Any]:
    """Compare a bundle's engines with PyTorch's golden outputs. Raises if one cannot run."""
    from hsnet_trt.runtime.verify import verify_bundle

    results = verify_bundle(bundle, flavour)
    return {
        "sizes": [
            {
                "size": list(r.size),
                "precision": r.precision,
                "relative": r.figures[-1].relative,
                "relative_p999": r.figures[-1].relative_p999,
                "flipped": r.flipped,
                "tolerance": dataclasses.asdict(r.tolerance),
            }
            for r in results
        ],
        "wrong": [f"{r.size}: out of tolerance" for r in results if not r.passed],
    }


def table(content: dict[str, Any]) -> str:
    """One line per check; for the frame loop, its cost beyond the engines."""
    lines = ["| check | result |", "|---|---|"]
    for name, found in content.items():
        if not isinstance(found, dict):
            continue
        result = found.get("skipped") or "; ".join(found.get("wrong", ())) or "as it should be"
        if "slots_2" in found:
            one, two = found["slots_1"], found["slots_2"]
            within = max(0.3, 0.05 * two["engine_ms"])
            result = (
                f"{two['beyond_ms']:.3f} ms a frame beyond the engines' {two['engine_ms']:.2f} "
                f"({_reached(two['beyond_ms'] <= within)}: 0.3 ms or 5 %), "
                f"{100 * two['share_of_engine_throughput']:.1f} % of their throughput; "
                f"one at a time {one['beyond_ms']:.3f} ms "
                f"({_reached(one['beyond_ms'] <= ALONE_MS)}: {ALONE_MS} ms; "
                f"{in_words(found['one_frame'])})"
            )
        lines.append(f"| {name} | {result} |")
    return "\n".join(lines)


def _reached(yes: bool) -> str:
    return "reached" if yes else "not reached"


def main() -> int:
    """Check what this machine can run, print it and write it to the file."""
    driver = find_driver()
    if not driver.gpus:
        print(f"gpu-check runtime: skipped, {driver.problem}")
        return 0
    there = {name: spec for name, spec in LIBRARIES.items() if has(spec[0])}
    if not there:
        print("gpu-check runtime: skipped, neither pycuda nor cuda-bindings is installed")
        return 0
    if nvcc.find_nvcc() is None:
        print("gpu-check runtime: skipped, there is no nvcc to compile the kernels with")
        return 0
    out = Path(os.environ.get("OUT", "build/gpu_check"))
    out.mkdir(parents=True, exist_ok=True)
    gpu = driver.gpus[0]
    report = GpuReport(
        out / "runtime.json",
        BUDGET_S,
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        cuda=driver.cuda_version,
    )
    for library, (_, module, name) in there.items():
        opened = getattr(importlib.import_module(f"hsnet_trt.runtime.device.{module}"), name)
        arch = int(gpu.compute_capability.replace(".", ""))
        try:
            check_library(report, library, opened, out, arch)
        except HSNetError as error:
            report.run(f"{library}: opening", partial(dict, wrong=[str(error)]))
    for flavour in ("tensorrt", "tensorrt_rtx"):
        bundle = os.environ.get("BUNDLE")
        if not has(flavour):
            report.content[flavour] = {"skipped": "not installed; kernels stood in for engines"}
        elif bundle is None:
            report.content[flavour] = {"skipped": "no BUNDLE was given"}
        else:
            report.run(flavour, partial(check_engines, bundle, flavour))
    print(table(report.content))
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
