"""The race, with contenders whose times are known, and a tiny one with real ones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hsnet_trt.benchmarks.limits import rates
from hsnet_trt.benchmarks.limits.case import VARIANTS, Case, draw_inputs
from hsnet_trt.benchmarks.limits.energy import EnergyMeter
from hsnet_trt.benchmarks.limits.machine_facts import Bystanders, machine_facts
from hsnet_trt.benchmarks.speed import contenders, scaling
from hsnet_trt.benchmarks.speed import race as speed
from hsnet_trt.benchmarks.speed.contenders import BASELINE, Spec, bundle_specs, torch_specs
from hsnet_trt.benchmarks.speed.race import Effort, Outcome, SpeedRow, race
from hsnet_trt.benchmarks.speed.record import BenchmarkPlan, Record, benchmark
from hsnet_trt.benchmarks.speed.report import (
    block,
    fill,
    keep_unfinished,
    machine_name,
    markdown,
    write_report,
)
from hsnet_trt.benchmarks.speed.targets import CPU_TARGETS, judge
from hsnet_trt.benchmarks.speed.timing_stats import ratio, summarise
from hsnet_trt.cli.main import app
from hsnet_trt.errors import BackendError, InputError
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.runtime.device.machine import Driver, Gpu

pytestmark = pytest.mark.xdist_group("benchmarks")
RATES = {"fp32": 200e9, "bf16": 400e9, "int8": 800e9, "copy": 20e9}
CASE = Case("resnet50", (400, 400))
EAGER = Spec(BASELINE, "fp32", "torch", caches=False)
PRECISIONS = ("fp32", "fp16")
OURS = Spec("ONNX Runtime", "fp32", "bundle", caches=True)


class FakeWorker:
    """Answers at once what its plan says: the milliseconds of an episode and of a query."""

    plans: ClassVar[dict[str, dict[str, Any]]] = {}
    order: ClassVar[list[tuple[str, str]]] = []
    closed: ClassVar[list[str]] = []

    def __init__(self, spec: Spec, size: tuple[int, int]) -> None:
        self.spec = spec

    def call(self, method: str, *arguments: Any) -> Any:
        plan = self.plans[self.spec.name]
        if method == plan.get("breaks"):
            raise BackendError("it ended", found="exit code -11")
        if method == "prepare":
            return plan["episode"] / 1000
        if method == "answer":
            scores = np.full((1, 4, 4), 0.5) + plan.get("off", 0.0)
            return scores, scores > 0.5
        if method == "latency":
            self.order.append((self.spec.name, arguments[0]))
            return [float(plan[arguments[0]])] * 3
        if method == "throughput":
            return {"intervals": [float(plan["stream"])] * 3, "frames": 4}
        return {"memory": {"host_bytes": 10**9, "device_bytes": None}, "facts": {"on": "air"}}[
            method
        ]

    def close(self) -> None:
        self.closed.append(self.spec.name)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    monkeypatch.setattr(speed, "RemoteWorker", FakeWorker)
    monkeypatch.setattr(speed, "_SETTLE_S", 0)
    monkeypatch.setattr(speed, "draw_inputs", lambda case, grids: None)
    for name in ("plans", "order", "closed"):
        monkeypatch.setattr(FakeWorker, name, type(getattr(FakeWorker, name))())
    FakeWorker.plans |= {
        BASELINE: {"episode": 600, "stream": -1},
        "ONNX Runtime": {"episode": 300, "stream": 120},
    }
    return FakeWorker.plans


def run(*specs: Spec, case: Case = CASE, rounds: int = 8) -> Outcome:
    grids = HSNet("resnet18").grids(case.size)
    return race(specs, [case], grids, Effort(rounds=rounds))


def find(outcome: Outcome, contender: str, workload: str, mode: str = "latency") -> SpeedRow:
    (row,) = (
        r for r in outcome.rows if (r.contender, r.workload, r.mode) == (contender, workload, mode)
    )
    return row


def test_rows_say_what_was_measured(plans):
    outcome = run(EAGER, OURS)
    stream = find(outcome, "ONNX Runtime", "stream")
    # eager encodes support and query for every query: its stream is its episodes
    assert find(outcome, BASELINE, "stream").times == find(outcome, BASELINE, "episode").times
    assert stream.speedup is not None and stream.speedup.median == pytest.approx(5)
    assert stream.times.calls == 24 and not stream.times.noisy
    assert stream.per_second == pytest.approx(1000 / 120)
    assert find(outcome, "ONNX Runtime", "episode").speedup.median == pytest.approx(2)
    assert find(outcome, "ONNX Runtime", "stream", "throughput").per_second == pytest.approx(
        1000 / 120
    )
    assert not outcome.wrong and not outcome.refused
    assert sorted(FakeWorker.closed) == sorted([BASELINE, "ONNX Runtime"])


def test_the_order_is_shuffled_and_every_round_has_every_contender(plans):
    run(EAGER, OURS, rounds=6)
    rounds = [FakeWorker.order[3 * i : 3 * i + 3] for i in range(6)]
    wanted = {(BASELINE, "episode"), ("ONNX Runtime", "episode"), ("ONNX Runtime", "stream")}
    assert all({*turns} == wanted for turns in rounds)
    assert len({tuple(turns) for turns in rounds}) > 1


def test_other_results_are_told(plans):
    plans["ONNX Runtime"]["off"] = 2e-4
    (said,) = run(EAGER, OURS).wrong
    assert "ONNX Runtime fp32" in said and "2.00e-04" in said
    plans["ONNX Runtime"]["off"] = 5e-5
    assert not run(EAGER, OURS).wrong
    plans["ONNX Runtime"]["off"] = float("nan")
    assert run(EAGER, OURS).wrong
    half = dataclasses.replace(OURS, precision="bf16")
    outcome = run(EAGER, half)
    assert not outcome.wrong and np.isnan(find(outcome, "ONNX Runtime", "stream").score_difference)


@pytest.mark.parametrize("method", ["prepare", "answer", "latency", "throughput", "memory"])
def test_one_that_breaks_takes_nothing_down(plans, method):
    plans["ONNX Runtime"]["breaks"] = method
    outcome = run(EAGER, OURS)
    assert "exit code -11" in outcome.refused["ONNX Runtime fp32"]
    assert find(outcome, BASELINE, "stream").times.median == 600


def test_one_that_is_far_slower_is_left_out_with_a_word(plans):
    plans["PyTorch autocast"] = {"episode": 6000, "stream": 6000}
    outcome = run(EAGER, Spec("PyTorch autocast", "fp16", "torch", caches=False), OURS)
    assert "10 times what PyTorch eager takes" in outcome.refused["PyTorch autocast fp16"]
    assert {row.contender for row in outcome.rows} == {BASELINE, "ONNX Runtime"}


def test_batches_have_no_stream(plans):
    outcome = run(EAGER, OURS, case=dataclasses.replace(CASE, batch=4))
    assert {row.mode for row in outcome.rows} == {"latency"}
    assert find(outcome, "ONNX Runtime", "stream").per_second == pytest.approx(4000 / 120)


def record(outcome: Outcome, **more: Any) -> Record:
    return Record(
        "hsnet-trt benchmark",
        machine_facts(),
        Effort(),
        rates=RATES,
        rows=outcome.rows,
        refused=outcome.refused,
        wrong=outcome.wrong,
        facts=outcome.facts,
        **{"finished": True, **more},
    )


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


def test_a_verdict_of_a_noisy_run_is_that_it_is_too_noisy():
    base = [600.0] * 8
    ours = [100.0, 200, 120, 190, 210, 130, 180, 140]
    assert ratio(base, ours).verdict(4) == "too noisy to say"
    assert summarise([[t] for t in ours]).noisy


def test_scaling_is_judged_step_by_step(monkeypatch):
    class Grows(FakeWorker):
        """Linear in shots, faster than linear in classes, less than linear in pairs."""

        def __init__(self, spec: Spec, size: tuple[int, int]) -> None:
            super().__init__(spec, size)
            self.side = size[0]

        def call(self, method: str, *arguments: Any) -> Any:
            if method == "prepare":
                (self.case,) = arguments
            if method == "memory":
                return {"host_bytes": 10**9 + 80 * 10**6 * self.case.classes}
            if method == "latency":
                time = 100.0 * self.case.shots * self.case.classes**1.1
                return [time if self.side == 400 else time / 3]
            return 0.1

    monkeypatch.setattr(scaling, "RemoteWorker", Grows)
    monkeypatch.setattr(scaling, "draw_inputs", lambda case, grids: case)
    spec = dataclasses.replace(OURS, backbone="resnet18")
    found = scaling.measure(spec, [(400, 400), (256, 256)])
    by = {(s.what, s.case.shots, s.case.classes, s.case.size[0]): s for s in found}
    assert by["shots", 5, 1, 400].growth == pytest.approx(5) and by["shots", 5, 1, 400].linear
    assert not by["classes", 1, 50, 400].linear
    pairs = by["pairs of positions", 1, 1, 400]
    assert pairs.times == pytest.approx((50**4 + 25**4 + 13**4) / (32**4 + 16**4 + 8**4))
    assert pairs.growth == pytest.approx(3) and pairs.linear
    said = scaling.summary(found)
    assert "FASTER than linearly in classes" in said[1] and "no faster" in said[2]
    assert "50 registered classes do NOT fit in 4 GB: the process takes 5.00 GB" in said[3]
    assert len(scaling.measure(spec, [(400, 400)])) == 6
    page = markdown(dataclasses.replace(record(Outcome()), scaling=found))
    assert "## Scaling" in page and said[1] in page


def test_block_is_filled_between_its_markers():
    page = "a\n<!-- speed: begin -->\nold\n<!-- speed: end -->\nb"
    assert fill(page, "new") == "a\n<!-- speed: begin -->\nnew\n<!-- speed: end -->\nb"
    with pytest.raises(ValueError, match="speed: begin"):
        fill("nothing", "new")


@pytest.mark.parametrize("area", [0.05, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("size", [(64, 64), (96, 128)])
def test_masks_cover_what_is_asked_for(area, size):
    grids = HSNet("resnet18").grids(size)
    case = Case("resnet18", size, shots=2, classes=2, area=area)
    inputs, again = draw_inputs(case, grids), draw_inputs(case, grids)
    masks = [mask for s in inputs.supports for shots in s.masks for mask in shots]
    assert len(masks) == 4 * VARIANTS and all(mask.shape == size for mask in masks)
    for mask in masks:
        assert mask.mean() == pytest.approx(area, abs=0.035)
    assert (inputs.queries[0][0] == again.queries[0][0]).all()
    assert (inputs.queries[0][0] != inputs.queries[1][0]).any()


@pytest.mark.parametrize("area", [0, -1, 1.5, float("nan")])
def test_an_area_that_is_none_is_refused(area):
    with pytest.raises(InputError, match="area"):
        draw_inputs(Case("resnet18", (64, 64), area=area), HSNet("resnet18").grids((64, 64)))


def test_energy_is_read_from_the_processor_s_counters(tmp_path):
    for name, joules in (("intel-rapl:0", 5), ("intel-rapl:1", 7), ("intel-rapl:0:0", 99)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{joules * 10**6}\n")
    (tmp_path / "intel-rapl:1" / "max_energy_range_uj").write_text(f"{8 * 10**6}\n")
    with EnergyMeter(tmp_path) as meter:
        (tmp_path / "intel-rapl:0" / "energy_uj").write_text(f"{9 * 10**6}\n")
        (tmp_path / "intel-rapl:1" / "energy_uj").write_text(f"{2 * 10**6}\n")  # began anew
        (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text(f"{500 * 10**6}\n")
    assert meter.source == "RAPL" and meter.joules == pytest.approx(4 + 3)
    with EnergyMeter(tmp_path / "nothing") as nothing:
        pass
    assert nothing.joules is None and nothing.source is None


def test_facts_name_the_machine_and_no_person():
    facts = machine_facts()
    assert facts["cores"] >= 1 and facts["packages"]["torch"]
    assert json.loads(json.dumps(facts)) == facts
    assert str(Path.home()) not in json.dumps(facts)
    assert machine_name({"gpus": [], "cpu": "Intel(R) Xeon(R) CPU @ 2.0GHz", "cores": 2}) == (
        "intel-xeon-2-0ghz-2-cores"
    )
    assert (
        machine_name({"gpus": ["NVIDIA H200 (141 GiB)"], "cpu": "x", "cores": 2}) == "nvidia-h200"
    )
    share = Bystanders().share(0.0)
    assert share is None or 0 <= share <= 1


def test_many_shots_are_not_streamed(plans):
    outcome = run(EAGER, OURS, case=dataclasses.replace(CASE, shots=5))
    assert {row.mode for row in outcome.rows} == {"latency"}


def test_forms_without_a_cache_are_timed_at_one_shot(plans):
    plans["PyTorch compile"] = {"episode": 500, "stream": 500}
    compiled = Spec("PyTorch compile", "fp32", "torch", caches=False)
    assert find(run(EAGER, compiled, OURS), "PyTorch compile", "episode").times.median == 500
    many = run(EAGER, compiled, OURS, case=dataclasses.replace(CASE, shots=5))
    assert {row.contender for row in many.rows} == {BASELINE, "ONNX Runtime"} and not many.refused


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


def test_what_a_bundle_is_timed_on(bundle, monkeypatch):
    gpu = Gpu(0, "Card", "9.0", 2**33, False)
    both = [(backend, of) for backend in ("onnxruntime", "onnxruntime_cuda") for of in PRECISIONS]
    for gpus, expected in (((), both[:2]), ((gpu,), both)):
        monkeypatch.setattr(contenders, "find_driver", lambda gpus=gpus: Driver("13.0", gpus))
        specs = bundle_specs(bundle)
        assert [(spec.backend, spec.precision) for spec in specs] == expected
        assert len({(spec.name, spec.precision) for spec in specs}) == len(specs)


def test_bundles_of_other_weights_are_refused(bundle):
    assert torch_specs("resnet18", None, "cpu")[0].name == BASELINE
    from hsnet_trt.model.checkpoint import save_checkpoint

    other = bundle.parent / "other.pt"
    save_checkpoint(HSNet("resnet18"), other)
    with pytest.raises(InputError, match="other weights"):
        benchmark([bundle], other, BenchmarkPlan())
