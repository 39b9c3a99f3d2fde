from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from hsnet_trt.benchmarks.limits import estimate as model
from hsnet_trt.benchmarks.limits.work import Step, Work
from hsnet_trt.cli.main import app
from hsnet_trt.export.engines.targets import TARGETS, Target

# 40 GFLOP in two products of FP32, and an addition between them.
WORK = Work(
    (
        Step("Conv", 30 * 10**9, 10**8, 10**8, "fp32"),
        Step("Add", 0, 10**8, 10**8, ""),
        Step("MatMul", 10 * 10**9, 10**8, 10**8, "fp32"),
    ),
    needed_bytes=3 * 10**8,
)
CARD = Target("card", "A card", "8.9", ("tensorrt",), 8, bandwidth=100, fp32=10, fp16=20)


def test_the_band_reaches_from_the_roofline_to_nothing_fused():
    found = model.estimate(WORK, CARD, "fp32")
    # 40 GFLOP at 10 TFLOPS; 0.3 GB at 100 GB/s
    assert found.low == pytest.approx(4.0) and found.bound == "compute" and found.published
    nodes = 1000 * (30e9 / 10e12 + 2e8 / 100e9 + 2e8 / 100e9)
    assert found.high == pytest.approx(nodes / model.WORST + 1000 * 3 * model.LAUNCH_S)
    assert found.low < found.middle < found.high


def test_half_precision_halves_what_is_moved():
    found = model.estimate(WORK, CARD, "fp16")
    assert found.low == pytest.approx(2.0)  # 40 GFLOP at 20 TFLOPS; 0.15 GB take 1.5 ms
    already = model.in_precision(model.in_precision(WORK, "fp16"), "fp16")
    assert already == model.in_precision(WORK, "fp16")
    assert already.needed_bytes == WORK.needed_bytes // 2
    assert model.in_precision(WORK, "int8").moved_bytes == WORK.moved_bytes // 4


def test_what_is_not_published_is_not_made_up():
    bare = Target("bare", "A board", "8.7", ("tensorrt",), bandwidth=100)
    found = model.estimate(WORK, bare, "fp16")
    assert (found.low, found.high, found.published) == (pytest.approx(1.5), None, False)
    assert found.middle is None
    nothing = model.estimate(WORK, Target("x", "x", "8.7", ("tensorrt",)), "fp16")
    assert (nothing.low, nothing.high) == (None, None)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_target_has_a_word(name):
    target = TARGETS[name]
    found = model.estimate(WORK, target, model.best_precision(target))
    assert found.low is not None and found.low > 0
    assert (found.high is not None) == found.published
    assert found.high is None or found.high > found.low


def record(median: float, contender: str = "ONNX Runtime") -> dict:
    case = {
        "backbone": "resnet50",
        "size": [400, 400],
        "shots": 1,
        "classes": 1,
        "batch": 1,
        "area": 0.2,
    }
    row = {
        "case": case,
        "contender": contender,
        "precision": "fp32",
        "workload": "stream",
        "mode": "latency",
        "times": {"median": median},
        "roofline": {"floor_ms": 100.0, "unfused_ms": 200.0},
    }
    return {"machine": {"gpus": [], "cpu": "A CPU", "cores": 2}, "rates": {}, "rows": [row]}


def test_the_model_is_held_against_what_was_measured(tmp_path):
    inside, outside = model.checks([record(160.0), record(900.0)])
    assert inside.inside and not outside.inside
    assert inside.error == pytest.approx(200 / 160 - 1)  # the middle of 100 to 400 is 200
    text = model.summary([inside, outside])
    assert "1 of 2 latencies" in text and "-78% to +25%" in text
    assert not model.checks([record(160.0, "PyTorch eager")])
    assert "No machine has been measured" in model.summary([])
    (tmp_path / "a.json").write_text(json.dumps(record(1.0)))
    (tmp_path / "other.json").write_text("{}")
    assert len(model.read_records(tmp_path)) == 1


@pytest.mark.xdist_group("benchmarks")
def test_the_command_says_that_it_is_a_model(bundle):
    done = CliRunner().invoke(app, ["estimate", str(bundle), "--target", "agx-orin-64gb"])
    assert done.exit_code == 0, done.output
    assert "agx-orin-64gb" in done.output and "predicted, not measured" in done.output
    assert "A model" in done.output
    every = CliRunner().invoke(app, ["estimate", str(bundle), "--shots", "5"])
    assert all(name in every.output for name in TARGETS)
    wrong = CliRunner().invoke(app, ["estimate", str(bundle), "--workload", "sprint"])
    assert wrong.exit_code == 1 and "workload" in str(wrong.exception)


def test_records_of_another_form_are_passed_over(tmp_path):
    """`gpu-check` writes JSON too, whole or by parts, and so may anyone."""
    measured = model.read_records()
    (tmp_path / "kept.json").write_text(json.dumps(measured[0]))
    plugin = json.loads((model.RESULTS / "h100-plugin.json").read_text())
    others = [plugin, plugin["timing"], [measured[0]], 5, None]
    for index, content in enumerate(others):
        (tmp_path / f"other{index}.json").write_text(json.dumps(content))
    assert model.read_records(tmp_path) == [measured[0]]
    assert {"rows", "rates"} <= plugin["timing"].keys(), "the part that looks most like a record"
    assert model.checks(model.read_records(tmp_path)) == model.checks(measured[:1])


def test_no_record_names_a_place_on_a_machine():
    files = sorted(model.RESULTS.iterdir())
    assert {"h100.md", "h100-plugin.json", "h100-runtime.json"} <= {file.name for file in files}
    for file in files:
        places = re.findall(r"[^.\w](/(?:root|home|tmp|work|opt|mnt|usr)/\S*)", file.read_text())
        assert not places, (file.name, places)
