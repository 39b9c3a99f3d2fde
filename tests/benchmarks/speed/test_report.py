"""Records of races: the page, the README's table, the files."""

from __future__ import annotations

import dataclasses
import json

import pytest
from helpers.fakes.race import CASE, EAGER, OURS, RATES, find, record, run
from PIL import Image
from typer.testing import CliRunner

from hsnet_trt.benchmarks.limits import rates
from hsnet_trt.benchmarks.limits.machine_facts import machine_facts
from hsnet_trt.benchmarks.speed.contenders import BASELINE
from hsnet_trt.benchmarks.speed.page import markdown
from hsnet_trt.benchmarks.speed.race import Effort, Outcome, race
from hsnet_trt.benchmarks.speed.report import (
    block,
    fill,
    keep_unfinished,
    write_report,
)
from hsnet_trt.benchmarks.speed.targets import CPU_TARGETS, judge
from hsnet_trt.cli.main import app
from hsnet_trt.errors import InputError
from hsnet_trt.model.hsnet import HSNet

pytestmark = pytest.mark.xdist_group("benchmarks")


def test_targets_are_judged_and_said(plans):
    outcome = run(EAGER, OURS)
    said = {
        (v.target.workload, v.target.shots, v.target.area): v
        for v in judge(outcome.rows, "ONNX Runtime")
        if v.target.precision == "fp32"
    }
    assert said["stream", 1, 0.2].outcome == "reached"  # 5 of 4
    assert said["episode", 1, 0.2].outcome == "missed"  # 2 of 2.5
    assert "where 240 would reach it" in said["episode", 1, 0.2].why
    assert said["stream", 5, 0.2].outcome == "not measured"
    assert len(judge(outcome.rows, "ONNX Runtime")) == len(CPU_TARGETS)
    page = markdown(record(outcome))
    assert "**reached**" in page and "**missed**" in page
    table = block(record(outcome), "here")
    assert (
        "| 20% | 1 | 600 ms | 120 ms a query, 300 ms an episode | **5.0 x** (5.0 to 5.0) "
        "| **2.0 x** (2.0 to 2.0) |" in table
    )
    assert "`hsnet-trt benchmark`" in table and machine_facts()["date"][:10] in table


def test_a_noisy_run_says_so(plans):
    times = iter([100, 200, 150, 320] * 100)
    plans["ONNX Runtime"]["stream"] = type(
        "Any", (), {"__float__": lambda self: float(next(times))}
    )()
    outcome = run(EAGER, OURS)
    assert find(outcome, "ONNX Runtime", "stream").times.noisy
    quiet, loud = record(outcome, bystanders=0.02), record(outcome, bystanders=0.4)
    assert len(quiet.warnings) == 1 and "noisy" in quiet.warnings[0]
    assert any("other processes used 40%" in line for line in loud.warnings)
    page = markdown(loud)
    assert "40%" in page and "| ~" in page


def test_block_is_filled_between_its_markers():
    page = "a\n<!-- speed: begin -->\nold\n<!-- speed: end -->\nb"
    assert fill(page, "new") == "a\n<!-- speed: begin -->\nnew\n<!-- speed: end -->\nb"
    with pytest.raises(InputError, match="speed: begin"):
        fill("nothing", "new")


def test_a_run_that_is_stopped_leaves_the_cases_that_were_done(plans, tmp_path):
    def stop_in_the_second(what: str, done: int, total: int) -> None:
        if "5-shot" in what:
            raise KeyboardInterrupt

    cases = [CASE, dataclasses.replace(CASE, shots=5)]
    grids = HSNet("resnet18").grids(CASE.size)

    def keep(outcome: Outcome) -> None:
        keep_unfinished(record(outcome, finished=False), tmp_path, "here")

    with pytest.raises(KeyboardInterrupt):
        race([EAGER, OURS], cases, grids, Effort(rounds=2), stop_in_the_second, keep)
    assert "1-shot" in (tmp_path / "here.unfinished.md").read_text()
    kept = json.loads((tmp_path / "here.unfinished.json").read_text())
    assert not kept["finished"] and "not come to its end" in kept["warnings"][0]
    assert {row["case"]["shots"] for row in kept["rows"]} == {1}
    whole = record(run(EAGER, OURS))
    files = write_report(whole, tmp_path, "here", tmp_path / "plot.png")
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_tiny_benchmark(bundle, checkpoint, tmp_path, monkeypatch):
    """The command, real contenders in their processes, real files."""
    fast = {kind: 100 * rate for kind, rate in RATES.items()}  # that no machine of today reaches
    monkeypatch.setattr(rates, "measure", lambda device: dict(fast))
    monkeypatch.setattr("hsnet_trt.cli.benchmark._show", lambda record: None)
    page = tmp_path / "README.md"
    page.write_text("<!-- speed: begin -->\n<!-- speed: end -->\nthe rest\n")
    out, plot = tmp_path / "out", tmp_path / "docs" / "benchmark.png"
    done = CliRunner().invoke(
        app,
        [
            "benchmark",
            str(bundle),
            "--checkpoint",
            str(checkpoint),
            "--shots",
            "1",
            "--area",
            "0.2",
            "--only",
            "onnx",
            "--rounds",
            "2",
            "--seconds",
            "0",
            "--out",
            str(out),
            "--plot",
            str(plot),
            "--device",
            "cpu",
            "--no-scaling",
            "--readme",
            str(page),
        ],
    )
    assert done.exit_code == 0, done.output
    (file,) = out.glob("*.json")
    found = json.loads(file.read_text())
    rows = found["rows"]
    assert {(r["contender"], r["workload"], r["mode"]) for r in rows} == {
        (name, workload, mode)
        for name in (BASELINE, "ONNX Runtime")
        for workload, mode in (
            ("stream", "latency"),
            ("episode", "latency"),
            ("stream", "throughput"),
        )
    }
    for row in rows:
        exact = row["precision"] == "fp32"
        assert row["score_difference"] < (1e-4 if exact else 1e-2)
        assert row["mask_difference"] < (1e-3 if exact else 1e-2)
        assert row["times"]["median"] > 0 and len(row["times"]["rounds"]) == 2
        assert row["host_bytes"] > 50e6
        # RATES has none for FP16, as a CPU has none.
        assert 0 < row["roofline"]["reached"] < 1 if exact else row["roofline"] is None
    assert not found["wrong"] and not found["refused"]
    assert found["machine"]["packages"]["torch"] and found["rates"] == fast
    assert "resnet18 64 x 64, 1-shot, mask 20%" in file.with_suffix(".md").read_text()
    shown = page.read_text()
    assert "| 20% | 1 |" in shown and shown.endswith("the rest\n")
    with Image.open(plot) as picture:
        assert picture.width > 800
