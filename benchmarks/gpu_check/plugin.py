"""``make gpu-check PART=plugin``: the correlation kernels on a real GPU, in a minute.

Runs from the source tree, with nothing installed. Its three parts (correctness against the float64
reference, compute-sanitizer, times against PyTorch) have a process of their own each, so that a
failure of one does not lose the results of the others. The figures go into ``$OUT/plugin.json``
(``build/gpu_check`` without ``OUT``). It ends with 1 if a kernel is wrong; a missed speed is
printed, but is no error. Without a GPU it says so, and ends with 0.
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
    TOLERANCE,
    adversarial_cases,
    judge,
    random_cases,
    skipping_differs,
    survives_anything,
)
from hsnet_trt.benchmarks.gpu_check.plugin_timing import LEVELS
from hsnet_trt.benchmarks.limits.plugin_prediction import EARLIER
from hsnet_trt.errors import HSNetError
from hsnet_trt.files import replacing
from hsnet_trt.runtime.device.machine import find_driver
from hsnet_trt.trt_plugins import compile_kernels, nvcc

BUDGET_S = 58.0
DTYPES = ("float16", "float32")
SANITIZER_S = 20
TIMING_S = 20.0  # for the most important rows, however long the other parts took
GRACE_S = 8.0  # beyond the budget, for a row that has begun
TIMING = "plugin_timing.json"  # rewritten after each row


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
    """Run a few small cases under compute-sanitizer; returns "clean", or its output."""
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


def on_device(fatbin: Path, count: int = 60, largest: int = 30) -> dict[str, Any]:
    """`correctness` on the first GPU; a CUDA failure is reported as what is wrong."""
    from hsnet_trt.benchmarks.gpu_check.plugin_on_device import DeviceRunner

    try:
        with DeviceRunner(fatbin) as device:
            return correctness(device, count, largest)
    except HSNetError as error:
        return {"cases": 0, "largest_error": {}, "wrong": [str(error)]}


def time_apart(fatbin: Path, out: Path, seconds: float) -> dict[str, Any]:
    """Time in a separate process, which is not affected if CUDA failed in this one.

    Returns:
        the result of `plugin_timing.time_all`, as far as it got, and `problem`: why it stopped
        early, or None.
    """
    kept = out / TIMING
    kept.unlink(missing_ok=True)
    command = [sys.executable, "-m", "hsnet_trt.benchmarks.gpu_check.plugin_timing"]
    command += [str(fatbin), str(kept), f"{seconds:.1f}"]
    problem = None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + GRACE_S, check=False
        )
        if done.returncode:
            problem = (done.stderr or done.stdout).strip()[-1000:] or f"ended {done.returncode}"
    except subprocess.TimeoutExpired:
        problem = f"not finished in {seconds + GRACE_S:.0f} s"
    found = json.loads(kept.read_text()) if kept.is_file() else {"rows": []}
    return {**found, "problem": problem}


def few_cases(fatbin: Path) -> int:
    """The cases for the sanitizer: both tile sizes, both types, masks and gaps."""
    wrong = on_device(fatbin, 4, 17)["wrong"]
    print("\n".join(wrong))
    return 1 if wrong else 0


def compile_for(capability: str, folder: Path) -> Path:
    """Compile for this GPU only, or as PTX for the newest GPU that nvcc knows."""
    found = nvcc.find_nvcc()
    known = nvcc.architectures(found) if found else []
    number = int(capability.replace(".", ""))
    same = [a for a in known if a // 10 == number // 10 and a <= number]
    path = folder / "correlation.fatbin"
    nvcc.compile_fatbin(compile_kernels.SOURCE, path, same[-1:] or known[-1:])
    return path


def wrong_rows(timing: dict[str, Any]) -> list[str]:
    """The rows whose results differ from the native sequence in float64."""
    return [
        f"{row['dtype']}, {row['level']} at {row['area']}: off by {row['largest_error']:.2e}"
        for row in timing["rows"]
        if not row["largest_error"] <= TOLERANCE[row["dtype"]]
    ]


def earlier_kernels(gpu: str) -> dict[tuple[str, str, str], float]:
    """Milliseconds of earlier kernels by type, level and mask, if measured on such a GPU.

    Those kernels took whole supports, and packed them in every call.
    """
    timing = json.loads(EARLIER.read_text(encoding="utf-8"))["timing"]
    if timing["gpu"] != gpu:
        return {}
    return {(r["dtype"], r["level"], r["area"]): r["plugin_ms"] for r in timing["rows"]}


def table(timing: dict[str, Any]) -> str:
    """The rows as a Markdown table; figures that were not measured are left empty."""
    lines = [
        "| type | level | mask | plugin ms | kernels before ms | native ms | faster "
        "| native, rows padded ms | product ms | product, rows padded ms | FLOP floor ms "
        "| byte floor ms | of attainable | error |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    before = earlier_kernels(timing["gpu"])
    for row in timing["rows"]:
        known = before.get((row["dtype"], row["level"], row["area"]))
        names = ("native_padded_ms", "product_ms", "product_padded_ms")
        padding = " | ".join(f"{row[name]:.4f}" if name in row else "" for name in names)
        lines.append(
            f"| {row['dtype']} | {row['level']} | {row['area']} | {row['plugin_ms']:.4f} "
            f"| {'' if known is None else f'{known:.4f}'} | {row['native_ms']:.4f} "
            f"| {row['speedup']:.2f} x | {padding} "
            f"| {row['flop_floor_ms']:.4f} "
            f"| {row['byte_floor_ms']:.4f} | {row['share_of_attainable']:.0%} "
            f"| {row['largest_error']:.1e} |"
        )
    return "\n".join(lines)


def targets(timing: dict[str, Any], capability: str) -> list[str]:
    """For each target speed, whether it was reached, and if not, where it was missed.

    Args:
        timing: the result of `time_all`.
        capability: compute capability of the GPU, which the target share of the attainable rate
            depends on.
    """
    share = 0.6 if capability in ("8.0", "8.6", "8.7", "8.9") else 0.4
    whole, upper, every = ("no mask", "100%"), ("level 2", "level 3"), tuple(LEVELS)
    areas = tuple({row["area"] for row in timing["rows"]})
    said = []
    for label, dtype, levels, chosen, limit, key in (
        ("FP16, full mask: 1.5 times native", "float16", every, whole, 1.5, "speedup"),
        ("FP16, 20 %: 4 times native, levels 2 and 3", "float16", upper, ("20%",), 4.0, "speedup"),
        ("FP16, 20 %: 2 times native, level 4", "float16", ("level 4",), ("20%",), 2.0, "speedup"),
        (
            f"FP16, level 2: {share:.0%} of the attainable rate",
            "float16",
            ("level 2",),
            ("no mask",),
            share,
            "share_of_attainable",
        ),
        ("FP32: never slower than native", "float32", every, areas, 1.0, "speedup"),
        ("FP16, rows padded: native 1.3 times", "float16", every, whole[:1], 1.3, "padding"),
    ):
        picked = [
            row
            for row in timing["rows"]
            if row["dtype"] == dtype and row["level"] in levels and row["area"] in chosen
            if key in row
        ]
        missed = [
            f"{row['level']} at {row['area']}: {row[key]:.2f}" for row in picked if row[key] < limit
        ]
        verdict = "not measured" if not picked else "reached" if not missed else "NOT reached"
        said.append(f"{label}: {verdict}" + (f" ({'; '.join(missed)})" if missed else ""))
    return said


def main() -> int:
    """Check what this machine can run, print it and write it to the file."""
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
        with replacing(out / "plugin.json") as scratch:  # time may run out
            scratch.write_text(json.dumps(report, indent=2) + "\n")

    try:
        fatbin = compile_for(gpu.compute_capability, out)
    except HSNetError as error:
        keep("failure", str(error))
        print(error)
        return 1
    keep("correctness", on_device(fatbin))
    print(json.dumps(report["correctness"], indent=2), flush=True)
    for tool in ("memcheck", "racecheck"):
        keep(tool, sanitize(tool, fatbin))
        print(f"{tool}: {report[tool]}", flush=True)
    left = BUDGET_S - (time.monotonic() - start)
    timing = time_apart(fatbin, out, max(left, TIMING_S))
    keep("timing", timing)
    report["correctness"]["wrong"] += wrong_rows(timing)  # of sizes that only these have
    if timing["rows"]:
        keep("targets", targets(timing, gpu.compute_capability))
        print(table(timing), *report["targets"], sep="\n")
    if timing["problem"]:
        print(f"timing: {timing['problem']}")
    fatbin.unlink()
    keep("correctness", report["correctness"])
    clean = all(
        report[tool] == "clean" or report[tool].startswith("not ")
        for tool in ("memcheck", "racecheck")
    )
    return 0 if clean and not report["correctness"]["wrong"] else 1


if __name__ == "__main__":
    sys.exit(main())
