"""The race, with contenders whose times are known, and a tiny one with real ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.fakes.race import CASE, EAGER, OURS, FakeWorker, find, run

from hsnet_trt.benchmarks.speed import contenders
from hsnet_trt.benchmarks.speed.contenders import BASELINE, Spec, bundle_specs, torch_specs
from hsnet_trt.benchmarks.speed.record import BenchmarkPlan, benchmark
from hsnet_trt.benchmarks.speed.timing_stats import ratio, summarise
from hsnet_trt.errors import InputError
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.runtime.device.machine import Driver, Gpu

pytestmark = pytest.mark.xdist_group("benchmarks")

PRECISIONS = ("fp32", "fp16")


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


def test_a_verdict_of_a_noisy_run_is_that_it_is_too_noisy():
    base = [600.0] * 8
    ours = [100.0, 200, 120, 190, 210, 130, 180, 140]
    assert ratio(base, ours).verdict(4) == "too noisy to say"
    assert summarise([[t] for t in ours]).noisy


def test_many_shots_are_not_streamed(plans):
    outcome = run(EAGER, OURS, case=dataclasses.replace(CASE, shots=5))
    assert {row.mode for row in outcome.rows} == {"latency"}


def test_forms_without_a_cache_are_timed_at_one_shot(plans):
    plans["PyTorch compile"] = {"episode": 500, "stream": 500}
    compiled = Spec("PyTorch compile", "fp32", "torch", caches=False)
    assert find(run(EAGER, compiled, OURS), "PyTorch compile", "episode").times.median == 500
    many = run(EAGER, compiled, OURS, case=dataclasses.replace(CASE, shots=5))
    assert {row.contender for row in many.rows} == {BASELINE, "ONNX Runtime"} and not many.refused


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
