"""The GPU check of the runtime, on a GPU that is not there: its own code must be right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt
from helpers.kernels.emulated_frames import compile_altered

from hsnet_trt.benchmarks.gpu_check import runtime as gpu_check_runtime
from hsnet_trt.benchmarks.gpu_check import runtime_kernels, runtime_loop
from hsnet_trt.benchmarks.gpu_check.report import GpuReport
from hsnet_trt.benchmarks.gpu_check.runtime_memory import check_memory
from hsnet_trt.runtime.device.driver import Cuda, open_cuda


@pytest.fixture(params=[True, False], ids=["pycuda", "cuda-bindings"])
def opened(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[Cuda, FakeDriver]:
    driver = FakeDriver()
    install(
        monkeypatch, driver, fake_tensorrt(driver, "10.3.0"), pycuda=request.param, bindings=True
    )
    for module in (runtime_kernels, runtime_loop):
        monkeypatch.setattr(module, "FRAME", (90, 160))
        monkeypatch.setattr(module, "DECODER", (40, 40))
    return open_cuda(), driver


# Which library starts a kernel changes nothing of what it computes; the next test tries both.
by_one = pytest.mark.parametrize("opened", [True], ids=["pycuda"], indirect=True)


def test_every_check_passes_on_a_gpu_without_faults(
    opened: tuple[Cuda, FakeDriver], frames_image: bytes
) -> None:
    cuda, driver = opened
    assert check_memory(cuda) == {"wrong": []}
    kernels = runtime_kernels.check_kernels(cuda, frames_image, rounds=6)
    assert kernels["wrong"] == [] and kernels["largest_error"]["prepare_f16"] > 0
    assert runtime_loop.show_overlap(cuda, frames_image, frames_image)["gap_between_frames_ms"] > 0
    loop = runtime_loop.measure_loop(cuda, frames_image, frames_image, count=3)
    assert {"slots_1", "slots_2", "slots_3"} <= set(loop)
    assert runtime_loop.long_run(cuda, frames_image, frames_image, count=30)["device_growth"] == 0
    cuda.close()
    assert driver.settled()
    assert "reached" in gpu_check_runtime.table({"loop": loop})
    parts = loop["one_frame"]
    # The fake's events lie one tick apart in each stream; the rest is the CPU's clock.
    assert [parts[f"{name}_ms"] for name in ("prepare", "engines", "vote", "upload_alone")] == [
        1,
        2,
        1,
        1,
    ]
    assert parts["copy_and_upload_ms"] >= 1 and parts["download_ms"] >= 1
    assert min(parts["frame_ms"], parts["read_ms"], parts["copy_alone_ms"]) > 0
    # Two in each round of the kernels' check, then the frames that are timed and five before them.
    assert sum(name == "hsnet_refine" for name, _ in driver.launches) == 2 * 6 + 3 + 5
    # The fake takes no time for it: the events are those of a frame that is not refined.
    assert parts["refine_ms"] == 0
    line = gpu_check_runtime.table({"loop": loop})
    assert "launching and waiting" in line and "refining, where it is on, 0.000" in line
    for beyond, word in ((0.39, "(reached: 0.4 ms;"), (0.41, "(not reached: 0.4 ms;")):
        loop["slots_1"]["beyond_ms"] = beyond
        assert f"{beyond:.3f} ms {word}" in gpu_check_runtime.table({"loop": loop})


@pytest.mark.usefixtures("frames_image")
@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("across[1] += pixel[1] * w", "across[1] += pixel[0] * w", ["prepare", "prepare"]),
        (">= (largest + 1) / 2", "> (largest + 1) / 2", ["masks", "masks"]),
        ("score / static_cast<float>", "1.01F * score / static_cast<float>", ["scores:"]),
        ("squares += value * value", "squares += value", ["likeness:"]),
        ("sum[c] / total", "colour[c]", ["refined:"]),
        ("share - mean[c] * average", "share + mean[c] * average", ["refined:"]),
        ("*p.invalid = 1", "*p.invalid = 0", ["refine", "refine"]),
        ("(1.F + value) / (1.F - value)", "1.05F + value", ["refined:"]),
    ],
    ids=["prepare", "settle", "vote", "likeness", "guide", "fit", "invalid", "refine"],
)
@by_one
def test_a_wrong_kernel_is_found(
    opened: tuple[Cuda, FakeDriver], tmp_path: Path, old: str, new: str, found: list[str]
) -> None:
    image = compile_altered(tmp_path, old, new)
    wrong = runtime_kernels.check_kernels(opened[0], image, rounds=2)["wrong"]
    assert [text.split()[0] for text in wrong] == found


@pytest.mark.usefixtures("frames_image")
@by_one
def test_a_kernel_that_takes_bgr_for_rgb_is_found(
    opened: tuple[Cuda, FakeDriver], tmp_path: Path
) -> None:
    image = compile_altered(tmp_path, "p.swap ? 2 - c : c", "c")
    (wrong,) = runtime_kernels.check_kernels(opened[0], image, rounds=3)["wrong"]
    assert wrong.startswith("prepare") and " BGR: " in wrong


def test_figures_are_kept_when_a_check_breaks(tmp_path: Path) -> None:
    report = GpuReport(tmp_path / "runtime.json", 420, gpu="none")
    report.run("first", lambda: {"wrong": []})
    report.run("second", lambda: {"wrong": [str(1 // 0)]})
    assert report.failed
    kept = json.loads((tmp_path / "runtime.json").read_text())
    assert kept["first"] == {"wrong": []} and "ZeroDivision" in kept["second"]["wrong"][0]
    assert isinstance(gpu_check_runtime.table(kept), str)


def test_without_a_gpu_it_says_so() -> None:
    from hsnet_trt.runtime.device.machine import find_driver

    if find_driver().gpus:
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "hsnet_trt.benchmarks.gpu_check.runtime"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.startswith("gpu-check runtime: skipped, ")
