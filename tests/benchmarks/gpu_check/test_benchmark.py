"""`make gpu-check PART=benchmark`, on the CPU in the GPU's place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from hsnet_trt.benchmarks.gpu_check import benchmark as check
from hsnet_trt.benchmarks.gpu_check import network_on_device as network
from hsnet_trt.benchmarks.gpu_check.report import GpuReport
from hsnet_trt.benchmarks.limits import rates
from hsnet_trt.benchmarks.limits.case import Case
from hsnet_trt.model.recipe import recipe_model
from hsnet_trt.trt_plugins import nvcc

CASE = Case("resnet18", (64, 64))
pytestmark = pytest.mark.xdist_group("benchmark on a device")


def once(call: Any) -> float:
    call()
    return 1.5


def refuses(call: Any) -> float:
    raise RuntimeError("operation not permitted when stream is capturing\nmore")


@pytest.fixture(scope="module")
def device() -> network.Device:
    return network.Device(recipe_model("resnet18"), CASE, "cpu", {"plain": once, "graph": refuses})


# FP16 takes ten times as long on a CPU.
ROWS = [
    (form, precision)
    for precision in ("fp32", "bf16")
    for form in (network.EAGER, "authors' order, channels-last", *network.OURS)
]


def test_every_form_computes_the_model_and_is_timed(device):
    found = network.whole_network(device, ROWS)
    assert found["wrong"] == []
    assert [(row["form"], row["precision"]) for row in found["rows"]] == ROWS
    for row in found["rows"]:
        assert "failed" not in row, row
        assert row["ms"] == {
            "plain": 1.5,
            "graph": "not: operation not permitted when stream is capturing",
        }
        assert row["precision"] != "fp32" or row["error"] < 1e-3
    assert json.loads(json.dumps(found)) == found


def test_a_form_that_is_wrong_is_found(device, monkeypatch):
    class Off(network.MatchConv2d):
        def forward(self, *levels: torch.Tensor) -> torch.Tensor:
            return super().forward(*levels) * 1.01

    monkeypatch.setitem(network.LOWERINGS, "conv2d", Off)
    wrong = network.whole_network(device, ROWS[:6])["wrong"]
    assert wrong and all(text.startswith("ours, conv2d") and "fp32" in text for text in wrong)


def test_a_form_that_fails_leaves_the_others(device, monkeypatch):
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(network.AuthorsOrder, "match", fails)
    rows = network.whole_network(device, ROWS[:6])["rows"]
    failed = [row for row in rows if "failed" in row]
    assert failed and all(row["form"].startswith("authors") for row in failed)
    assert len(failed) < len(rows)


def test_blocks_are_timed_on_their_own_inputs(device):
    rows = network.blocks(device, ("bf16", "fp32"))["rows"]
    conv2d = {row["block"] for row in rows if row["lowering"] == "conv2d"}
    assert {"squeeze2", "squeeze3", "squeeze4", "mix3", "mix2", "decoder"} <= conv2d
    assert {row["precision"] for row in rows} == {"fp32", "bf16"}
    assert {row["layout"] for row in rows if row["lowering"] == "conv3d"} == {"contiguous"}
    assert all(row["ms"]["plain"] == 1.5 for row in rows)


def test_children_get_what_they_get_in_a_call():
    pair = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    x = torch.ones(1, 2)
    given = network.inputs_of_children(pair, (x,))
    assert torch.equal(given["0"][0], x) and torch.equal(given["1"][0], pair[0](x))
    assert not pair[0]._forward_pre_hooks


@pytest.fixture
def tf32() -> Iterator[None]:
    """On, as a user may have it, and as it was when the test is over."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_the_reference_is_computed_without_tf32(monkeypatch, tf32):
    """By default cuDNN rounds FP32 convolutions to TF32, and then every FP32 form seems wrong."""
    flags = []
    for name in ("features", "support", "match"):
        true = getattr(network.HSNet, name)

        def seen(*given: Any, true: Any = true) -> Any:
            flags.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
            return true(*given)

        monkeypatch.setattr(network.HSNet, name, seen)
    network.Device(recipe_model("resnet18"), CASE, "cpu", {})
    assert len(flags) == 4 and set(flags) == {(False, False)}


def test_tf32_is_on_for_its_rows_alone(device, monkeypatch, tf32):
    flags = {}
    monkeypatch.setattr(
        network,
        "_form",
        lambda d, form, dtype: lambda: flags.update({form: torch.backends.cudnn.allow_tf32}) or [],
    )
    network.whole_network(device, [("a", "tf32"), ("b", "fp32"), ("c", "fp16"), ("d", "bf16")])
    assert flags == {"a": True, "b": False, "c": False, "d": False}


def test_what_is_worth_most_comes_first_and_the_rest_is_left_out_in_time(device, monkeypatch):
    assert network.FIRST_ROWS[:2] == ((network.EAGER, "fp32"), (network.EAGER, "fp16"))
    assert set(network.FIRST_ROWS[2:]) == {(form, "fp16") for form in network.OURS}
    left = iter([network.ROW_S + 1, network.ROW_S - 1, network.ROW_S + 1])
    rows = network.whole_network(
        device, [ROWS[0], ROWS[1], (network.COMPILED, "fp16")], lambda: next(left)
    )["rows"]
    assert "ms" in rows[0]
    assert [row.get("skipped") for row in rows] == [None, *["no time was left"] * 2]
    assert "no time was left" in check.table(rows, "form")
    assert network.blocks(device, ("fp32",), lambda: 0)["skipped"]


def parts(monkeypatch, tmp_path, budget: float, **more: Any) -> tuple[dict[str, Any], list[str]]:
    """What a whole run writes down, and its parts in the order they ran."""
    monkeypatch.setattr(rates, "best", lambda device: {"fp16": 1e14, "copy": 1e12})
    for name in ("FIRST_ROWS", "OTHER_ROWS", "FULL_ROWS"):
        monkeypatch.setattr(network, name, (("ours, conv2d", "fp32"),))
    real = network.blocks
    monkeypatch.setattr(network, "blocks", lambda d, _, left: real(d, ("fp32",), left))
    report = GpuReport(tmp_path / "benchmark.json", budget, check.RESERVE_S, gpu="none")
    ran = check.NetworkParts(report, "cpu", {"plain": once}, case=CASE, compiled=False, **more)
    ran.first()
    ran.rest()
    assert not report.failed
    kept = json.loads((tmp_path / "benchmark.json").read_text())
    return kept, [name for name, part in kept.items() if isinstance(part, dict)]


def test_all_parts_are_written_down(tmp_path, monkeypatch):
    kept, order = parts(monkeypatch, tmp_path, 430, full=True)
    assert order == [
        "whole network, 1-shot",
        "rates",
        "blocks, 1-shot",
        "other forms, 1-shot",
        "whole network, 5-shot",
        "TF32 and BF16, 1-shot",
    ]
    shown = check.table(kept["whole network, 1-shot"]["rows"], "form", "precision")
    assert len(shown.splitlines()) == 2 + len(kept["whole network, 1-shot"]["rows"])


def test_without_time_every_part_says_so(tmp_path, monkeypatch):
    """And TF32 and BF16 are for a full run alone."""
    kept, order = parts(monkeypatch, tmp_path, check.RESERVE_S - 1)
    assert len(order) == 5
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
    assert all("not measured" in line for line in check.verdicts(rows[:2]))
    assert all(
        "not measured" in line
        for line in check.verdicts([{"form": "x", "precision": "fp16", "failed": "y"}])
    )


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
