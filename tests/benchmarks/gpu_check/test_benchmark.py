"""`make gpu-check PART=benchmark`, on the CPU in the GPU's place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from hsnet_trt.benchmarks.forms import parts, whole
from hsnet_trt.benchmarks.gpu_check import benchmark as check
from hsnet_trt.benchmarks.gpu_check.report import GpuReport
from hsnet_trt.benchmarks.limits import rates
from hsnet_trt.benchmarks.limits.case import Case
from hsnet_trt.trt_plugins import nvcc

CASE = Case("resnet18", (64, 64))
pytestmark = pytest.mark.xdist_group("benchmark on a device")


def once(call: Any) -> float:
    call()
    return 1.5


def run_whole(
    monkeypatch, tmp_path, budget: float, **more: Any
) -> tuple[dict[str, Any], list[str]]:
    """What a whole run writes down, and its parts in the order they ran."""
    monkeypatch.setattr(rates, "best", lambda device: {"fp16": 1e14, "copy": 1e12})
    for name in ("FIRST_ROWS", "CHANGED_ROWS", "OTHER_ROWS", "FULL_ROWS"):
        monkeypatch.setattr(whole, name, (("ours, conv2d", "fp32"),))
    for name in ("blocks", "equal_layers"):
        real = getattr(parts, name)
        monkeypatch.setattr(parts, name, lambda d, _, left, real=real: real(d, ("fp32",), left))
    report = GpuReport(tmp_path / "benchmark.json", budget, check.RESERVE_S, gpu="none")
    ran = check.NetworkParts(report, "cpu", {"plain": once}, case=CASE, compiled=False, **more)
    ran.first()
    ran.rest()
    assert not report.failed
    kept = json.loads((tmp_path / "benchmark.json").read_text())
    return kept, [name for name, part in kept.items() if isinstance(part, dict)]


def test_all_parts_are_written_down(tmp_path, monkeypatch):
    kept, order = run_whole(monkeypatch, tmp_path, 430, full=True)
    assert order == [
        "whole network, 1-shot",
        "rates",
        "blocks, 1-shot",
        "changes, 1-shot",
        "equal layers, 1-shot",
        "kernels, 1-shot",
        "other forms, 1-shot",
        "whole network, 5-shot",
        "TF32 and BF16, 1-shot",
    ]
    shown = check.table(kept["whole network, 1-shot"]["rows"], "form", "precision")
    assert len(shown.splitlines()) == 2 + len(kept["whole network, 1-shot"]["rows"])


def test_without_time_every_part_says_so(tmp_path, monkeypatch):
    """And TF32 and BF16 are for a full run alone."""
    kept, order = run_whole(monkeypatch, tmp_path, check.RESERVE_S - 1)
    assert len(order) == 8
    assert all(kept[name] == {"skipped": "no time was left"} for name in order)


def test_the_kernels_part_is_skipped_without_a_compiler(tmp_path, monkeypatch):
    monkeypatch.setattr(nvcc, "find_nvcc", lambda: None)
    report = GpuReport(tmp_path / "benchmark.json", 430)
    assert "no nvcc" in check.check_correlation(report, tmp_path)["skipped"]


def test_targets_are_judged_by_the_fastest_of_ours():
    def row(form: str, precision: str, **ms: Any) -> dict[str, Any]:
        return {"form": form, "precision": precision, "ms": ms}

    rows = [
        row("authors' order, eager", "fp32", plain=30.0, graph=1.0),
        row("authors' order, torch.compile", "fp16", plain=6.0),
        row("ours, conv2d", "fp16", plain=4.0, graph=2.5),
        row("ours, conv3d", "fp16", plain=5.0, graph="not: no"),
        row("ours, conv2d", "fp32", plain=0.1),
    ]
    said = check.verdicts(rows)
    assert ": reached, 12.0" in said[0] and "NOT reached, 2.4" in said[1]
    assert "of ours, conv2d" in said[0]
    assert len(said) == 2 and all("not measured" in line for line in check.verdicts(rows[:2]))
    assert all(
        "not measured" in line
        for line in check.verdicts([{"form": "x", "precision": "fp16", "failed": "y"}])
    )


def test_a_change_that_is_a_tenth_faster_than_the_best_lowering_is_worth_exporting():
    def row(form: str, ms: float) -> dict[str, Any]:
        return {"form": form, "precision": "fp16", "ms": {"graph": ms}}

    slow, fast = whole.CHANGED[:2]
    rows = [row("ours, conv3d", 2.5), row("ours, conv2d", 2.2), row(slow, 2.1), row(fast, 1.9)]
    said = check.verdicts([*rows, {"form": whole.CHANGED[2], "precision": "fp16", "skipped": "x"}])
    assert said[2:] == [
        f"{slow}: not worth it, 1.05 times ours, conv2d",
        f"{fast}: worth exporting, 1.16 times ours, conv2d",
    ]
    assert len(check.verdicts(rows[2:])) == 2


def test_time_is_the_median_and_waits_for_the_device():
    waited = []
    found = check.median_ms(lambda: None, lambda: waited.append(1))
    assert found >= 0 and len(waited) >= 8


def test_without_a_gpu_it_says_so(tmp_path):
    from hsnet_trt.runtime.device.machine import find_driver

    if find_driver().gpus:
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "hsnet_trt.benchmarks.gpu_check.benchmark"],
        capture_output=True,
        text=True,
        env={**os.environ, "OUT": str(tmp_path), "PYTHONPATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gpu-check benchmark: skipped, ")
    assert not list(tmp_path.iterdir())
