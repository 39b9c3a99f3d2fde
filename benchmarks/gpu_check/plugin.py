"""``make gpu-check PART=plugin``: the correlation kernels on a real GPU, in a minute.

Runs from the source tree; nothing of it need be installed. Three parts: correctness against the
float64 reference, compute-sanitizer, and times against PyTorch. The figures go into
``$OUT/plugin.json`` (``build/gpu_check`` without ``OUT``). Ends with 1 if a kernel is wrong; a
speed that was not reached is said, and is no error. Without a GPU it says so and ends with 0.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hsnet_trt.benchmarks.gpu_check.plugin_cases import (
    adversarial_cases,
    judge,
    random_cases,
    skipping_differs,
    survives_anything,
)
from hsnet_trt.errors import HSNetError
from hsnet_trt.runtime.device.machine import find_driver
from hsnet_trt.trt_plugins import compile_kernels, nvcc

BUDGET_S = 58.0
DTYPES = ("float16", "float32")
SANITIZER_S = 20


def correctness(device: Any, count: int, largest: int) -> dict[str, Any]:
    """Judge random and adversarial cases of both types on a ``DeviceRunner``."""
    wrong, worst, cases = [], dict.fromkeys(DTYPES, 0.0), 0
    for dtype in DTYPES:
        for case in (*random_cases(dtype, count, largest), *adversarial_cases(dtype)):
            error, problem = judge(case, device.run)
            worst[dtype] = max(worst[dtype], error)
            cases += 1
            if problem:
                wrong.append(f"{dtype}, {case.name}: {problem}")
        for name, problem in (
            ("skipping", skipping_differs(dtype, device.run)),
            ("random bits", survives_anything(dtype, device.run_op)),
        ):
            cases += 1
            if problem:
                wrong.append(f"{dtype}, {name}: {problem}")
    return {"cases": cases, "largest_error": worst, "wrong": wrong}


def sanitize(tool: str, fatbin: Path) -> str:
    """Run few small cases under compute-sanitizer; return "clean", or what it said."""
    sanitizer = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin"
    )
    if sanitizer is None:
        return "not run: compute-sanitizer is not installed"
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable]
    command += ["-m", "hsnet_trt.benchmarks.gpu_check.plugin", "--few-cases", str(fatbin)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SANITIZER_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not finished in {SANITIZER_S} s"
    if done.returncode == 0:
        return "clean"
    return (done.stdout + done.stderr).strip()[-2000:]


def few_cases(fatbin: Path) -> int:
    """What runs under the sanitizer: both tile sizes, both types, masks and gaps."""
    from hsnet_trt.benchmarks.gpu_check.plugin_on_device import DeviceRunner

    with DeviceRunner(fatbin) as device:
        result = correctness(device, 4, 17)
    print("\n".join(result["wrong"]))
    return 1 if result["wrong"] else 0


def compile_for(capability: str, folder: Path) -> Path:
    """Compile for this GPU only, or for the newest that nvcc knows, as PTX."""
    found = nvcc.find_nvcc()
    known = nvcc.architectures(found) if found else []
    number = int(capability.replace(".", ""))
    same = [a for a in known if a // 10 == number // 10 and a <= number]
    path = folder / "correlation.fatbin"
    nvcc.compile_fatbin(compile_kernels.SOURCE, path, same[-1:] or known[-1:])
    return path


def main() -> int:
    """Check what this machine can, print it, write it down."""
    parser = argparse.ArgumentParser(description="Check the correlation kernels on a GPU.")
    parser.add_argument("--few-cases", type=Path, help="compiled kernels; for compute-sanitizer")
    arguments = parser.parse_args()
    if arguments.few_cases:
        return few_cases(arguments.few_cases)
    driver = find_driver()
    if not driver.gpus:
        print(f"gpu-check plugin: skipped, {driver.problem}")
        return 0
    if nvcc.find_nvcc() is None:
        print("gpu-check plugin: skipped, there is no nvcc to compile the kernels with")
        return 0
    start = time.monotonic()
    out = Path(os.environ.get("OUT", "build/gpu_check"))
    out.mkdir(parents=True, exist_ok=True)
    gpu = driver.gpus[0]
    report: dict[str, Any] = {"gpu": gpu.name, "compute_capability": gpu.compute_capability}

    def keep(name: str, value: Any) -> None:
        report[name] = value
        report["seconds"] = round(time.monotonic() - start, 1)
        partial = out / "plugin.json.part"
        partial.write_text(json.dumps(report, indent=2) + "\n")
        partial.replace(out / "plugin.json")  # whole at every moment, if time runs out

    try:
        fatbin = compile_for(gpu.compute_capability, out)
        from hsnet_trt.benchmarks.gpu_check.plugin_on_device import DeviceRunner

        with DeviceRunner(fatbin) as device:
            keep("correctness", correctness(device, 60, 30))
    except HSNetError as error:
        keep("failure", str(error))
        print(error)
        return 1
    print(json.dumps(report["correctness"], indent=2))
    for tool in ("memcheck", "racecheck"):
        keep(tool, sanitize(tool, fatbin))
        print(f"{tool}: {report[tool]}")
    try:
        from hsnet_trt.benchmarks.gpu_check import plugin_timing

        timing = plugin_timing.time_all(fatbin, lambda: BUDGET_S - (time.monotonic() - start))
        keep("timing", timing)
        keep("targets", plugin_timing.targets(timing))
        print(plugin_timing.table(timing), *report["targets"], sep="\n")
    except ImportError as error:
        keep("timing", f"not measured: {error}")
        print(report["timing"])
    fatbin.unlink()
    clean = all(
        report[tool] == "clean" or report[tool].startswith("not ")
        for tool in ("memcheck", "racecheck")
    )
    return 0 if clean and not report["correctness"]["wrong"] else 1


if __name__ == "__main__":
    sys.exit(main())
