"""``make gpu-check PART=benchmark``: how fast HSNet can be on this card, in under 90 seconds.

Runs from the source tree with the installed PyTorch. It measures the card's own rates; the whole
network in the authors' order of operations and in this repository's lowerings; each block of each
lowering; changes to the lowerings that may be faster; and, with ``BUNDLE=folder`` of a bundle with
engines for this card, TensorRT or TensorRT for RTX. The most important figures come first; parts
that time does not allow are skipped, and the file names them. ``ARGS=--full`` takes up to 8 minutes
and adds TF32, BF16 and the correlation kernels against native operations (with nvcc).

The figures go into ``$OUT/benchmark.json`` (``build/gpu_check`` without ``OUT``), rewritten after
each part. It ends with 1 if something is wrong; a missed target is printed, but is no error.
Without a GPU it says so, and ends with 0.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hsnet_trt.benchmarks.gpu_check.report import GpuReport
from hsnet_trt.benchmarks.limits.case import Case
from hsnet_trt.errors import HSNetError
from hsnet_trt.runtime.device.driver import has
from hsnet_trt.runtime.device.machine import find_driver

BUDGET_S, FULL_BUDGET_S = 85.0, 430.0
RESERVE_S = 5.0
# FP16, against PyTorch eager in FP32 and torch.compile in FP16, both in the authors' order.
TARGETS = (("authors' order, eager", "fp32", 10.0), ("authors' order, torch.compile", "fp16", 3.0))


def check_engines(bundle: str, flavour: str) -> dict[str, Any]:
    """Verify and time a bundle's engines on this card. An engine that cannot run raises why."""
    from hsnet_trt.benchmarks.limits.case import draw_inputs
    from hsnet_trt.benchmarks.speed.bundle_contender import BundleContender
    from hsnet_trt.benchmarks.speed.contenders import Spec
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
    """Milliseconds of a call including Python's overhead: the median of at least seven."""
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
    """The lowest of a row's times over its clocks; None if there is none."""
    return min((ms for ms in row.get("ms", {}).values() if isinstance(ms, float)), default=None)


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Which targets are reached, and which changes to a lowering are worth exporting, as text.

    `rows`: those of the whole network with one shot.
    """
    from hsnet_trt.benchmarks.forms.changes import WORTH
    from hsnet_trt.benchmarks.forms.whole import CHANGED, OURS, OURS_COMPILED

    timed = [(ms, r) for r in rows if r["precision"] == "fp16" and (ms := best_ms(r))]
    ours = [(ms, row) for ms, row in timed if row["form"] in OURS]
    lines = []
    for form, precision, wanted in TARGETS:
        against = next((r for r in rows if (r["form"], r["precision"]) == (form, precision)), {})
        base = best_plain(against)
        label = f"{wanted:g} times {form} {precision}"
        if not ours or base is None:
            lines.append(f"{label}: not measured")
            continue
        ms, row = min(ours, key=lambda pair: pair[0])
        found = base / ms
        lines.append(
            f"{label}: {'reached' if found >= wanted else 'NOT reached'}, {found:.1f} "
            f"({base:.3f} ms against {ms:.3f} of {row['form']})"
        )
    for ms, row in timed:
        if ours and row["form"] in (*CHANGED, OURS_COMPILED):
            least, best = min(ours, key=lambda pair: pair[0])
            word = "worth exporting" if least / ms >= WORTH else "not worth it"
            lines.append(f"{row['form']}: {word}, {least / ms:.2f} times {best['form']}")
    return lines


def best_plain(row: dict[str, Any]) -> float | None:
    """A row's time as users run it, without a CUDA graph; None if there is none."""
    ms = row.get("ms", {}).get("plain")
    return ms if isinstance(ms, float) else None


def table(rows: list[dict[str, Any]], *keys: str) -> str:
    """Rows as a Markdown table, with a column of `ms` for each clock."""
    clocks = list(dict.fromkeys(name for row in rows for name in row.get("ms", {})))
    head = [*keys, *(f"{name} ms" for name in clocks)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [str(row.get(key, "")) for key in keys]
        why_not = row.get("failed") or row.get("skipped", "")
        cells += [str(row.get("ms", {}).get(name, why_not)) for name in clocks]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


class NetworkParts:
    """The parts of the benchmark that run in PyTorch.

    Args:
        report: collects the figures and knows the time left.
        device: as PyTorch names it.
        clocks: name -> way to time a call.
        full: also TF32 and BF16.
        case: what to measure; by default ResNet-50 at 400 x 400 with one shot.
        compiled: whether torch.compile is measured.
    """

    def __init__(
        self,
        report: GpuReport,
        device: str,
        clocks: dict[str, Any],
        *,
        full: bool = False,
        case: Case | None = None,
        compiled: bool = True,
    ) -> None:
        from hsnet_trt.benchmarks.forms.device import Device
        from hsnet_trt.model.recipe import recipe_model

        self._report, self._name, self._clocks = report, device, clocks
        self._full, self._compiled = full, compiled
        self._case = case or Case("resnet50", (400, 400))
        self._model = recipe_model(self._case.backbone)
        self._device = Device(self._model, self._case, device, clocks)
        self.rows: list[dict[str, Any]] = []  # of the whole network with one shot

    def first(self) -> None:
        """The card's rates, and the most important rows."""
        from hsnet_trt.benchmarks.forms import whole
        from hsnet_trt.benchmarks.limits import rates

        self._whole("whole network, 1-shot", whole.FIRST_ROWS)
        self._report.run("rates", lambda: rates.best(self._name.partition(":")[0]))

    def rest(self) -> None:
        """Blocks, changes, other forms, five shots, and last torch.compile, which takes longest."""
        from hsnet_trt.benchmarks.forms import parts, whole

        report = self._report
        precisions = ("fp16", "fp32", "tf32", "bf16") if self._full else ("fp16", "fp32")
        report.run(
            "blocks, 1-shot", lambda: parts.blocks(self._device, precisions, lambda: report.left)
        )
        self._whole("changes, 1-shot", whole.CHANGED_ROWS)
        report.run(
            "equal layers, 1-shot",
            lambda: parts.equal_layers(self._device, precisions[:2], lambda: report.left),
        )
        self._whole("other forms, 1-shot", whole.OTHER_ROWS)
        report.run("whole network, 5-shot", self._five_shots)
        if self._compiled:
            self._whole("torch.compile, 1-shot", whole.COMPILED_ROWS)
        if self._full:
            rows = [r for r in whole.FULL_ROWS if self._compiled or r[0] != whole.COMPILED]
            self._whole("TF32 and BF16, 1-shot", rows)

    def _whole(self, part: str, rows: Sequence[tuple[str, str]]) -> None:
        from hsnet_trt.benchmarks.forms.whole import whole_network

        report = self._report
        report.run(part, lambda: whole_network(self._device, rows, lambda: report.left))
        self.rows += report.content[part].get("rows", [])

    def _five_shots(self) -> dict[str, Any]:
        from hsnet_trt.benchmarks.forms.device import Device
        from hsnet_trt.benchmarks.forms.whole import FIRST_ROWS, whole_network

        five = dataclasses.replace(self._case, shots=5)
        device = Device(self._model, five, self._name, self._clocks)
        return whole_network(device, FIRST_ROWS, lambda: self._report.left)


def main() -> int:
    """Measure what this machine can run, print it and write it to the file."""
    parser = argparse.ArgumentParser(description="Measure HSNet on this card.")
    parser.add_argument("--full", action="store_true", help="TF32, BF16, kernels: up to 8 minutes")
    full = parser.parse_args().full
    driver = find_driver()
    if not driver.gpus:
        print(f"gpu-check benchmark: skipped, {driver.problem}")
        return 0
    if not has("torch"):
        print("gpu-check benchmark: skipped, PyTorch is not installed")
        return 0
    out = Path(os.environ.get("OUT", "build/gpu_check"))
    report = GpuReport(out / "benchmark.json", FULL_BUDGET_S if full else BUDGET_S, RESERVE_S)
    import torch

    if not torch.cuda.is_available():
        print("gpu-check benchmark: skipped, this PyTorch has no CUDA")
        return 0
    out.mkdir(parents=True, exist_ok=True)
    from hsnet_trt.benchmarks.gpu_check.plugin_timing import time_graph
    from hsnet_trt.benchmarks.limits.machine_facts import machine_facts

    report.content |= {"machine": machine_facts(), "torch": torch.__version__}
    report.content["cuda"] = torch.version.cuda
    clocks = {
        "graph": lambda call: 1000 * time_graph(torch, call),
        "plain": lambda call: median_ms(call, torch.cuda.synchronize),
    }
    parts = NetworkParts(report, "cuda", clocks, full=full)
    parts.first()
    for flavour in ("tensorrt", "tensorrt_rtx"):
        bundle = os.environ.get("BUNDLE")
        if not has(flavour):
            report.content[flavour] = {"skipped": "not installed"}
        elif bundle is None:
            report.content[flavour] = {"skipped": "no BUNDLE was given"}
        else:
            report.run(flavour, partial(check_engines, bundle, flavour))
    parts.rest()
    if full:
        report.run("correlation", partial(check_correlation, report, out))
    print(table(parts.rows, "form", "precision", "error"))
    blocks = report.content["blocks, 1-shot"].get("rows", [])
    print(table(blocks, "lowering", "block", "precision", "layout"))
    layers = report.content["equal layers, 1-shot"].get("rows", [])
    print(table(layers, "layers", "form", "precision", "error"))
    report.content["targets"] = verdicts(parts.rows)
    print("\n".join(report.content["targets"]))
    report.write()
    return 1 if report.failed else 0


def check_correlation(report: GpuReport, out: Path) -> dict[str, Any]:
    """The correlation kernels against native operations, if there is an nvcc."""
    from hsnet_trt.benchmarks.gpu_check import plugin_timing
    from hsnet_trt.benchmarks.gpu_check.plugin import compile_for
    from hsnet_trt.trt_plugins.nvcc import find_nvcc

    if find_nvcc() is None:
        return {"skipped": "there is no nvcc to compile the kernels with"}
    try:
        fatbin = compile_for(find_driver().gpus[0].compute_capability, out)
    except HSNetError as error:
        return {"skipped": str(error)}
    try:
        return plugin_timing.time_all(fatbin, lambda: report.left - 40, lambda _: None)
    finally:
        fatbin.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
