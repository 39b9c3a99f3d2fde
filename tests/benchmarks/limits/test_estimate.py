from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest
from typer.testing import CliRunner

from hsnet_trt.benchmarks.limits import estimate as model
from hsnet_trt.benchmarks.limits.estimate import FAST, SLOW
from hsnet_trt.benchmarks.limits.work import Step, Work
from hsnet_trt.cli.main import app
from hsnet_trt.export.engines.targets import TARGETS, Target

# 40 GFLOP in two wide products of FP32, and an addition between them.
WORK = Work(
    (
        Step("Conv", 30 * 10**9, 10**8, 10**8, "fp32", 128),
        Step("Add", 0, 10**8, 10**8, ""),
        Step("MatMul", 10 * 10**9, 10**8, 10**8, "fp32", 512, 2504),
    ),
    needed_bytes=3 * 10**8,
)
CARD = Target("card", "A card", "8.9", ("tensorrt",), 8, bandwidth=100, fp32=10, fp16=20)


def test_the_band_reaches_from_all_fused_to_nothing_fused():
    found = model.estimate(WORK, CARD, "fp32")
    # 30 GFLOP at 10 TFLOPS take 3 ms, 10 GFLOP 1 ms; 0.2 GB at 100 GB/s 2 ms, the addition's too
    fast = 3 / FAST.computing + 2 / FAST.moving + 2 * 1000 * FAST.kernel_s
    assert found.low == pytest.approx(fast) and found.bound == "compute"
    slow = 3 / SLOW.computing + 2 * 2 / SLOW.moving + 3 * 1000 * SLOW.kernel_s
    assert found.high == pytest.approx(slow)
    assert found.low < found.middle < found.high


def test_narrow_and_unaligned_products_reach_less_of_tensor_cores():
    def low(precision: str, **changes: int) -> float:
        step = dataclasses.replace(WORK.steps[0], **changes)
        return model.estimate(Work((step,)), CARD, precision).low

    assert low("fp16", width=16) > 3 * low("fp16")
    assert low("fp32", width=16) == low("fp32")
    assert low("fp16", columns=2500) > 3 * low("fp16", columns=2504)
    assert low("fp32", columns=2500) == low("fp32", columns=2504)


def test_half_precision_halves_what_is_moved():
    already = model.in_precision(model.in_precision(WORK, "fp16"), "fp16")
    assert already == model.in_precision(WORK, "fp16")
    assert already.needed_bytes == WORK.needed_bytes // 2
    assert model.in_precision(WORK, "int8").moved_bytes == WORK.moved_bytes // 4
    moving = model.estimate(Work(WORK.steps[1:2]), CARD, "fp16")
    assert moving.high == pytest.approx(1 / SLOW.moving + 1000 * SLOW.kernel_s)


def test_many_small_kernels_are_bound_by_their_launches():
    small = Work((Step("Transpose", 0, 10, 10, ""),) * 100)
    found = model.estimate(small, CARD, "fp32")
    assert found.bound == "launches" and found.low == pytest.approx(0.4, rel=0.01)


def test_what_is_not_published_is_not_made_up():
    bare = Target("bare", "A board", "8.7", ("tensorrt",), bandwidth=100)
    found = model.estimate(WORK, bare, "fp16")
    fast = 2 * 1 / FAST.moving + 2 * 1000 * FAST.kernel_s
    assert (found.low, found.high) == (pytest.approx(fast), None)
    assert found.middle is None and math.isfinite(found.low)
    nothing = model.estimate(WORK, Target("x", "x", "8.7", ("tensorrt",)), "fp16")
    assert (nothing.low, nothing.high) == (None, None)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_target_has_a_word(name):
    target = TARGETS[name]
    found = model.estimate(WORK, target, model.best_precision(target))
    assert found.low is not None and found.low > 0
    assert found.high is None or found.high > found.low


def test_the_band_holds_what_a_card_took_and_is_less_than_four_times_wide():
    """Of ResNet-50 at 400 x 400, whose work is kept beside the record of the card."""
    found = model.checks()
    assert {check.precision for check in found} == {"fp32", "tf32", "fp16"} and len(found) == 12
    assert all(check.inside for check in found)
    counted = json.loads((model.RESULTS / "h100-network-work.json").read_text())
    for rows in counted.values():
        work = model.read_work(rows)
        for target in TARGETS.values():
            for precision in ("fp32", "tf32", "fp16", "int8"):
                band = model.estimate(work, target, precision)
                assert band.high is None or band.high < 4 * band.low, (target.name, precision)
    text = model.summary(found)
    assert "12 of 12 times are in the band, which was set by them" in text and "-45% to" in text


def test_the_kept_work_is_that_of_the_network():
    """88.7 G operations in the 2D form: backbone, correlation, squeezing, mixing, decoding."""
    counted = json.loads((model.RESULTS / "h100-network-work.json").read_text())
    work = model.read_work(counted["conv2d"])
    assert len(work.steps) == 480 and work.flops == pytest.approx(88.7e9, rel=0.002)
    # 4 layers of 512 channels at 50 x 50: every position by every position.
    (product,) = [s for s in work.steps if s.op == "MatMul" and s.flops > 20e9]
    assert product.flops == 2 * 4 * 512 * 2500**2
    assert (product.width, product.columns) == (512, 2500)


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
    for area in ("5", "0", "nan"):
        wrong = CliRunner().invoke(app, ["estimate", str(bundle), "--area", area])
        assert wrong.exit_code == 1 and "mask area" in str(wrong.exception)


def test_no_record_names_a_place_on_a_machine():
    files = sorted(model.RESULTS.iterdir())
    assert {"h100.md", "h100-plugin.json", "h100-runtime.json"} <= {file.name for file in files}
    for file in files:
        places = re.findall(r"[^.\w](/(?:root|home|tmp|work|opt|mnt|usr)/\S*)", file.read_text())
        assert not places, (file.name, places)
