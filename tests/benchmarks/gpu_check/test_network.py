"""`make gpu-check PART=network`, on the CPU in the GPU's place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from helpers.bundles.half import both
from helpers.bundles.tiny import in_two_forms
from helpers.bundles.tiny_graphs import SIZE
from helpers.fakes.onnxruntime import FakeOnnxRuntime, install_onnxruntime
from helpers.pictures.scenes import RED, scene

from hsnet_trt.benchmarks.gpu_check import network as check
from hsnet_trt.benchmarks.gpu_check import network_checks as checks
from hsnet_trt.benchmarks.gpu_check import network_contest as contest
from hsnet_trt.benchmarks.gpu_check.benchmark import table
from hsnet_trt.benchmarks.gpu_check.network_contest import Contest, Pace
from hsnet_trt.benchmarks.gpu_check.report import GpuReport
from hsnet_trt.benchmarks.limits.case import Case, Inputs, SupportPictures
from hsnet_trt.benchmarks.speed.contenders import BASELINE, Spec
from hsnet_trt.data.episodes.episode import Episode, Episodes
from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device.machine import Driver, Gpu
from hsnet_trt.runtime.ort import cuda as onnxruntime_cuda
from hsnet_trt.runtime.segmenter import FewShotSegmenter

PACE = Pace(0.0, 2)
CARD = Gpu(0, "Fake card", "9.0", 80 * 2**30, False)


def box(*, left: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture with a red box, and the box's mask."""
    place = (slice(20, 70), slice(left, left + 50))
    mask = np.zeros(SIZE, bool)
    mask[place] = True
    return scene(SIZE, [(RED, place)]), mask


def episodes(count: int) -> Episodes:
    def make(number: int) -> Episode:
        (query, truth), (support, mask) = box(left=20 + number), box(left=40)
        return Episode(
            query, truth, support[None], mask[None], 0, "red", None, "q", ("s",), SIZE
        )  # fmt: skip

    return Episodes("red boxes", {0: "red"}, make, count)


def inputs() -> Inputs:
    picture, mask = box(left=30)
    return Inputs([[picture]], [SupportPictures([[picture]], [[mask]])])


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(both(tmp_path_factory.mktemp("halves") / "b"))


def test_golden_outputs_of_each_precision(halves: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = checks.golden(halves, "onnxruntime", ("fp16", "fp32"))
    assert [row["precision"] for row in found["rows"]] == ["fp16", "fp32"]
    assert found["wrong"] == [] and json.dumps(found)
    real = checks.verify_bundle

    def spoiled(*arguments: Any) -> Any:
        import dataclasses

        return [dataclasses.replace(r, flipped=1.0) for r in real(*arguments)]

    monkeypatch.setattr(checks, "verify_bundle", spoiled)
    (wrong,) = checks.golden(halves, "onnxruntime", ("fp32",))["wrong"]
    assert wrong.startswith("fp32 is out of tolerance")


def test_half_precision_is_judged_on_as_many_episodes_as_there_is_time_for(halves: str) -> None:
    found = checks.fp16_against_fp32(halves, "onnxruntime", episodes(9), 600)
    assert found["episodes"] == 9 and found["miou"]["fp32"] > 60
    assert found["target"].startswith(("reached", "NOT reached"))
    assert checks.fp16_against_fp32(halves, "onnxruntime", episodes(9), 0)["episodes"] == 5
    assert "OpenCV" in checks.fp16_against_fp32(halves, "onnxruntime", None, 1)["skipped"]


def test_what_grows_is_found(halves: str) -> None:
    with FewShotSegmenter.load(halves, "onnxruntime") as segmenter:
        flat = checks.long_run(segmenter, inputs(), 30, lambda: 5, lambda: 99)
        assert (flat["frames"], flat["wrong"]) == (30, []) and flat["growth_bytes"]["device"] == 0
        sizes: Iterator[int] = iter((0, 2 * checks.SLACK_BYTES))
        grown = checks.long_run(segmenter, inputs(), 30, lambda: next(sizes), lambda: 99)
        assert grown["wrong"] == [f"device memory grew by {2 * checks.SLACK_BYTES:,} bytes"]
        short = checks.long_run(segmenter, inputs(), 30, lambda: None, lambda: -1)
        assert short["frames"] == 0


class Worker:
    """In the place of a contender in a process of its own."""

    closed: ClassVar[list[str]] = []

    def __init__(self, spec: Spec, size: tuple[int, int]) -> None:
        self.spec = spec

    def call(self, method: str, *arguments: Any) -> Any:
        if self.spec.name == "breaks" or (self.spec.name, method) == (contest.OURS, "fails"):
            raise BackendError("no such kernel")
        if self.spec.name == "late" and method == "prepare":
            time.sleep(1.5)
        return {
            "latency": [4.0, 5.0, 6.0],
            "throughput": {"intervals": [4.0, 4.0]},
            "facts": {"device": "it"},
            "network": [3.5, 3.7, 3.6],
        }.get(method)

    def close(self, wait_s: float = 10) -> None:
        self.closed.append(self.spec.name)


def specs(*names: str) -> list[Spec]:
    return [Spec(name, "fp16", "torch", False) for name in names]


def test_who_is_late_or_breaks_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "RemoteWorker", Worker)
    Worker.closed = []
    case = Case("resnet18", SIZE)
    with Contest(specs(contest.OURS, "late", "breaks"), case, inputs()) as held:
        found = held.measure(PACE, lambda: 0)
        ours, late, breaks = found["rows"]
        spread = {"median": 5.0, "p10": 4.2, "p90": 5.8}
        assert ours["ms"] == {**spread, "streamed": 4.0, "network": 3.6}
        assert "still warmed up" in late["skipped"]
        assert "no such kernel" in breaks["failed"] and found["wrong"] == []
        held.again(inputs(), 5, PACE, lambda: 99)
        again = held.measure(PACE, lambda: 99)["rows"]
        assert [row["contender"] for row in again] == [contest.OURS, "late", "breaks"]
        assert again[0]["ms"]["median"] == 5.0
        assert [row["skipped"] for row in again[1:]] == [late["skipped"], "it failed before"]
        held.again(inputs(), 5, PACE, lambda: 0.1)
        last = held.measure(PACE, lambda: 0.1)["rows"]
        assert "third of the time" in last[0]["skipped"] and len(last) == 3
    assert {"late", "breaks", contest.OURS} <= set(Worker.closed)


def test_targets_in_words() -> None:
    def row(name: str, precision: str, median: float) -> dict[str, Any]:
        return {
            "contender": name, "precision": precision, "ms": {"median": median, "streamed": 2.5}
        }  # fmt: skip

    rows = [row(contest.OURS, "fp16", 3.0), row(BASELINE, "fp32", 22.0)]
    said = contest.verdicts([*rows, row(contest.COMPILED, "fp16", 2.0)])
    assert said[0] == "4 x PyTorch eager fp32: reached, 7.3"
    assert said[1] == "1 x PyTorch compile fp16: NOT reached, 0.7"
    assert said[2] == "300 frames a second streamed in FP16, of the shipped model: reached, 400"
    rows[0]["ms"]["network"] = 2.4
    said = contest.verdicts(rows)
    assert said[2] == "0.3 ms or 5 % beside the network's 2.40: NOT reached, 0.60 ms"
    assert said[3] == "streamed, 95 % of the network back to back: reached, 96%"
    assert "not measured" in contest.verdicts(rows)[1]


def test_options_are_tried_on_every_lowering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, path = FakeOnnxRuntime(), str(in_two_forms(tmp_path / "b"))
    install_onnxruntime(monkeypatch, fake)
    monkeypatch.setattr(checks, "find_driver", lambda: Driver("13.0", (CARD,)))
    monkeypatch.setattr(onnxruntime_cuda, "_problem", lambda library: None)
    rows = checks.provider_options(path, "fp32", inputs(), PACE, lambda: 99)["rows"]
    assert [(row["options"], row["lowering"]) for row in rows] == [
        (choice, lowering) for choice in checks.CHOICES for lowering in ("conv2d", "conv3d")
    ]
    assert all(min(row["ms"]["frame"], row["ms"]["streamed"]) > 0 for row in rows), rows
    given = fake.options[::6]
    assert [o["cudnn_conv_algo_search"] for o in given] == [
        "HEURISTIC", "EXHAUSTIVE", "HEURISTIC", "EXHAUSTIVE", "HEURISTIC"
    ]  # fmt: skip
    assert [o.get("prefer_nhwc") for o in given] == [None, None, "1", "1", None]
    assert [o.get("enable_cuda_graph") for o in given] == [*[None] * 4, "0"]
    late = checks.provider_options(path, "fp32", inputs(), PACE, lambda: -1)["rows"]
    assert all("no time" in row["skipped"] for row in late)


def test_the_whole_is_written_part_by_part(
    tmp_path: Path, halves: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of worth; what there is no time for says so."""
    monkeypatch.setattr(contest, "RemoteWorker", Worker)
    monkeypatch.setattr(check, "_grids", lambda backbone, size: ((12, 16), (6, 8), (3, 4)))
    monkeypatch.setattr(checks, "draw_episodes", lambda size, count: episodes(count))
    scale = check.Scale(100.0, "cpu", PACE, 6, 100.0, 0.0, 20)
    report = GpuReport(tmp_path / "network.json", scale.budget_s, 5.0)
    parts = check.Parts(report, halves, scale)
    parts.all()
    report.write()
    kept = json.loads((tmp_path / "network.json").read_text())
    names = ["backend", "seconds", "episodes drawn", "golden outputs", "FP16 against FP32"]
    assert list(kept) == [*names, "1-shot", "5-shot", "long run"]
    assert not report.failed and kept["long run"]["frames"] == 20
    assert [row["contender"] for row in kept["1-shot"]["rows"]][:2] == [contest.OURS] * 2
    hurried = GpuReport(tmp_path / "hurried.json", 4.0, 5.0)
    check.Parts(hurried, halves, scale).all()
    assert hurried.content["long run"] == {"skipped": "no time was left"}


def test_a_bundle_of_one_precision_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest, "RemoteWorker", Worker)
    monkeypatch.setattr(check, "_grids", lambda backbone, size: ((12, 16), (6, 8), (3, 4)))
    monkeypatch.setattr(checks, "draw_episodes", lambda size, count: episodes(count))
    path = str(in_two_forms(tmp_path / "b"))
    report = GpuReport(tmp_path / "network.json", 100.0, 5.0)
    scale = check.Scale(100.0, "cpu", PACE, 6, 100.0, 0.0, 20)
    check.Parts(report, path, scale).all()
    skipped = {"skipped": "the bundle holds no other precision than fp32"}
    assert report.content["FP16 against FP32"] == skipped
    assert not report.failed, report.content


def test_where_no_backend_can_use_the_card_pytorch_is_measured_alone(
    tmp_path: Path, halves: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error all the same; what is not measured names the reason."""
    monkeypatch.setattr(contest, "RemoteWorker", Worker)
    monkeypatch.setattr(check, "_grids", lambda backbone, size: ((12, 16), (6, 8), (3, 4)))
    report = GpuReport(tmp_path / "network.json", 100.0, 5.0)
    parts = check.Parts(report, halves, check.CARD)
    parts.all()
    kept = json.loads((tmp_path / "network.json").read_text())
    (wrong,) = kept["backend"]["wrong"]
    assert report.failed and "the CPU runs it: the best that works here; not tensorrt" in wrong
    for part in ("golden outputs", "FP16 against FP32", "long run", "options of ONNX Runtime"):
        assert kept[part] == {"skipped": wrong}
    one, five = kept["1-shot"]["rows"], kept["5-shot"]["rows"]
    named = [(row["contender"], row["precision"]) for row in one]
    pytorch = [(BASELINE, "fp32"), ("PyTorch autocast", "fp16"), (contest.COMPILED, "fp16")]
    assert named == [(contest.OURS, "fp16"), (contest.OURS, "fp32"), *pytorch]
    assert [row.get("skipped") for row in one] == [wrong, wrong, None, None, None]
    assert [row["ms"]["median"] for row in one[2:]] == [5.0, 5.0, 5.0] and parts.rows == one
    assert [(row["contender"], row["precision"]) for row in five] == named
    assert [row["ms"]["median"] for row in five[2:]] == [5.0, 5.0, 5.0]
    assert "not measured" in kept["targets"][0]
    assert table(parts.rows, "contender", "precision", "device")


@pytest.mark.parametrize("given", [[], ["--rehearse"]])
def test_what_is_missing_is_said(tmp_path: Path, given: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hsnet_trt.benchmarks.gpu_check.network", *given],
        capture_output=True,
        text=True,
        env={**os.environ, "OUT": str(tmp_path), "BUNDLE": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    words = "no BUNDLE was given" if given else "NVIDIA driver"
    assert done.stdout.startswith("gpu-check network: skipped") and words in done.stdout
    assert not list(tmp_path.iterdir())
