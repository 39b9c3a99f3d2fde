"""``make gpu-check PART=benchmark``: how fast HSNet can be on this card, in under 8 minutes.

Runs from the source tree with the PyTorch that is there; nothing is installed. Measured are what
the card can do at best, the whole network in the authors' order of operations and in this
repository's lowerings, each block of each lowering, the correlation's kernels against native
operations (with nvcc), and, with ``BUNDLE=folder`` of a bundle with engines for this card, TensorRT
or TensorRT for RTX. The figures go into ``$OUT/benchmark.json`` (``build/gpu_check`` without
``OUT``), rewritten after each part. Ends with 1 if something is wrong; a figure that was not
reached is said, and is no error. Without a GPU it says so and ends with 0.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hsnet_trt.benchmarks.gpu_check.report import GpuReport
from hsnet_trt.errors import HSNetError
from hsnet_trt.runtime.device.driver import has
from hsnet_trt.runtime.device.machine import find_driver

BUDGET_S = 430.0
# FP16, against PyTorch eager in FP32 and torch.compile in FP16, both in the authors' order.
TARGETS = (("authors' order, eager", "fp32", 10.0), ("authors' order, torch.compile", "fp16", 3.0))


def check_engines(bundle: str, flavour: str) -> dict[str, Any]:
    """A bundle's engines on this card: verified, then timed; or the exact refusal."""
    from hsnet_trt.benchmarks.limits.case import Case, draw_inputs
    from hsnet_trt.benchmarks.speed.contenders import BundleContender, Spec
    from hsnet_trt.model.hsnet import HSNet
    from hsnet_trt.runtime.bundle import Bundle
    from hsnet_trt.runtime.verify import verify_bundle

    manifest = Bundle.open(bundle).manifest
    backbone, size = manifest.model.backbone, manifest.sizes[0]
    inputs = draw_inputs(Case(backbone, size), HSNet(backbone).grids(size))
    wrong = [
        f"{r.size} {r.precision}: out of tolerance"
        for r in verify_bundle(bundle, flavour)
        if not r.passed
    ]
    rows = []
    for precision in dict.fromkeys(e.variant.precision for e in manifest.engines):
        spec = Spec(flavour, precision, "bundle", True, bundle=bundle, backend=flavour)
        contender = BundleContender(spec, size)
        contender.register(inputs.supports[0])
        call = partial(contender.segment, inputs.queries[0])
        frames = inputs.queries[0] * 300
        begin = time.perf_counter()
        count = sum(1 for _ in contender.stream(frames))
        seconds = time.perf_counter() - begin
        rows.append({"precision": precision, "latency_ms": median_ms(call), "fps": count / seconds})
    return {"rows": rows, "wrong": wrong}


def median_ms(call: Callable[[], Any], synchronise: Callable[[], Any] = lambda: None) -> float:
    """Milliseconds of a call as it is, Python and all: the median of at least seven."""
    times: list[float] = []
    for _ in range(3):
        call()
    synchronise()
    begin = time.perf_counter()
    while len(times) < 7 or (time.perf_counter() - begin < 0.3 and len(times) < 200):
        start = time.perf_counter()
        call()
        synchronise()
        times.append(1000 * (time.perf_counter() - start))
    return float(sorted(times)[len(times) // 2])


def best_ms(row: dict[str, Any]) -> float | None:
    """The fastest of a row's clocks; None if none could."""
    return min((ms for ms in row.get("ms", {}).values() if isinstance(ms, float)), default=None)


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """What is said of the targets, from the rows of the whole network with one shot."""
    ours = [(ms, row) for row in rows if row["form"].startswith("ours")
            and row["precision"] == "fp16" and (ms := best_ms(row))]  # fmt: skip
    said = []
    for form, precision, wanted in TARGETS:
        against = next((r for r in rows if (r["form"], r["precision"]) == (form, precision)), {})
        base = best_plain(against)
        label = f"{wanted:g} times {form} {precision}"
        if not ours or base is None:
            said.append(f"{label}: not measured")
            continue
        ms, row = min(ours, key=lambda pair: pair[0])
        found = base / ms
        said.append(
            f"{label}: {'reached' if found >= wanted else 'NOT reached'}, {found:.1f} "
            f"({base:.3f} ms against {ms:.3f} of {row['form']})"
        )
    return said


def best_plain(row: dict[str, Any]) -> float | None:
    """A row's time as people run it, without a CUDA graph."""
    ms = row.get("ms", {}).get("plain")
    return ms if isinstance(ms, float) else None


def table(rows: list[dict[str, Any]], *keys: str) -> str:
    """Rows with `ms` by clock as Markdown."""
    clocks = list(dict.fromkeys(name for row in rows for name in row.get("ms", {})))
    head = [*keys, *(f"{name} ms" for name in clocks)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [str(row.get(key, "")) for key in keys]
        cells += [str(row.get("ms", {}).get(name, row.get("failed", ""))) for name in clocks]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measure_network(
    report: GpuReport, device_name: str, clocks: dict[str, Any], **more: Any
) -> None:
    """The parts that PyTorch runs: rates, the whole network with 1 and 5 shots, the blocks."""
    from hsnet_trt.benchmarks.gpu_check import network_on_device as network
    from hsnet_trt.benchmarks.limits import rates
    from hsnet_trt.benchmarks.limits.case import Case
    from hsnet_trt.model.recipe import recipe_model

    case = more.get("case") or Case("resnet50", (400, 400))
    report.run("rates", lambda: rates.best(device_name.partition(":")[0]))
    model = recipe_model(case.backbone)
    device = network.Device(model, case, device_name, clocks)
    compiled = more.get("compiled", True)
    report.run("whole network, 1-shot", lambda: network.whole_network(device, compiled))
    report.run("blocks, 1-shot", lambda: network.blocks(device))
    five = Case(case.backbone, case.size, shots=5, area=case.area)

    def many() -> dict[str, Any]:
        return network.whole_network(network.Device(model, five, device_name, clocks), False)

    report.run("whole network, 5-shot", many)


def main() -> int:
    """Measure what this machine can, print it, write it down."""
    driver = find_driver()
    if not driver.gpus:
        print(f"gpu-check benchmark: skipped, {driver.problem}")
        return 0
    if not has("torch"):
        print("gpu-check benchmark: skipped, PyTorch is not installed")
        return 0
    import torch

    if not torch.cuda.is_available():
        print("gpu-check benchmark: skipped, this PyTorch has no CUDA")
        return 0
    out = Path(os.environ.get("OUT", "build/gpu_check"))
    out.mkdir(parents=True, exist_ok=True)
    from hsnet_trt.benchmarks.gpu_check.plugin_timing import time_graph
    from hsnet_trt.benchmarks.limits.machine_facts import machine_facts

    clocks = {
        "plain": lambda call: median_ms(call, torch.cuda.synchronize),
        "graph": lambda call: 1000 * time_graph(torch, call),
    }
    report = GpuReport(
        out / "benchmark.json", BUDGET_S,
        machine=machine_facts(), torch=torch.__version__, cuda=torch.version.cuda,
    )  # fmt: skip
    measure_network(report, "cuda", clocks)
    report.run("correlation", partial(check_correlation, report, out))
    for flavour in ("tensorrt", "tensorrt_rtx"):
        bundle = os.environ.get("BUNDLE")
        if not has(flavour):
            report.content[flavour] = {"skipped": "not installed"}
        elif bundle is None:
            report.content[flavour] = {"skipped": "no BUNDLE was given"}
        else:
            report.run(flavour, partial(check_engines, bundle, flavour))
    whole = report.content["whole network, 1-shot"].get("rows", [])
    print(table(whole, "form", "precision", "error"))
    print(
        table(
            report.content["blocks, 1-shot"].get("rows", []),
            "lowering",
            "block",
            "precision",
            "layout",
        )
    )
    report.run("targets", lambda: {"said": verdicts(whole)})
    return 1 if report.failed else 0


def check_correlation(report: GpuReport, out: Path) -> dict[str, Any]:
    """The correlation's own kernels against native operations, where there is an nvcc."""
    from gpu_check_plugin import compile_for

    from hsnet_trt.benchmarks.gpu_check import plugin_timing
    from hsnet_trt.trt_plugins.nvcc import find_nvcc

    if find_nvcc() is None:
        return {"skipped": "there is no nvcc to compile the kernels with"}
    try:
        fatbin = compile_for(find_driver().gpus[0].compute_capability, out)
    except HSNetError as error:
        return {"skipped": str(error)}
    try:
        return plugin_timing.time_all(fatbin, lambda: report.left - 40)
    finally:
        fatbin.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
