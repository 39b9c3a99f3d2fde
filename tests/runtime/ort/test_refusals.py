"""What keeps ONNX Runtime off a GPU is named, and the CPU is taken only by "auto"."""

from __future__ import annotations

import dataclasses
import logging
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import SIZE, make_graph
from helpers.fakes.onnxruntime import CPU, CUDNN, GPU, FakeOnnxRuntime, Machine

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BackendError, BundleError
from hsnet_trt.runtime.bundle.manifest import PackedLevel
from hsnet_trt.runtime.device.machine import Driver

Shot = tuple[np.ndarray, np.ndarray]


def packed_alone(path: Path) -> Path:
    """The lowering for CPUs, and no other."""
    made = [make_graph(graph, SIZE)[1] for graph in ("features", "support", "match")]
    variant = dataclasses.replace(made[2].variant, lowering="packed")
    made[2] = dataclasses.replace(
        made[2], variant=variant, packing=(PackedLevel((1, 1), 3, 1),) * 3
    )
    return make_bundle(path, replace={"graphs": tuple(made)})


def test_the_lowering_for_cpus_is_not_for_it(
    tmp_path: Path, machine: Machine, runtime: FakeOnnxRuntime
) -> None:
    with pytest.raises(BackendError, match="no graphs for GPUs"):
        FewShotSegmenter.load(packed_alone(tmp_path / "b"), backend="onnxruntime_cuda")


def no_driver(machine: Machine, runtime: FakeOnnxRuntime) -> None:
    machine.driver = Driver(None, (), "the NVIDIA driver is not installed")


def not_in_this_wheel(machine: Machine, runtime: FakeOnnxRuntime) -> None:
    runtime.package_name, runtime.cuda_version = "onnxruntime", ""
    runtime._providers = ["AzureExecutionProvider", CPU]


def driver_too_old(machine: Machine, runtime: FakeOnnxRuntime) -> None:
    machine.driver = Driver("12.6", (GPU,))


def no_cudnn(machine: Machine, runtime: FakeOnnxRuntime) -> None:
    machine.libraries.remove(CUDNN)


def of_another_cuda(machine: Machine, runtime: FakeOnnxRuntime) -> None:
    machine.libraries = {name.replace("13", "12") for name in machine.libraries}


def silently_on_the_cpu(machine: Machine, runtime: FakeOnnxRuntime) -> None:
    runtime.loads = False


def a_failing_driver(machine: Machine, runtime: FakeOnnxRuntime) -> None:
    runtime.refuses = (
        'info.cc:63 FAIL : Failed to parse provider option "device_id": CUDA failure 35: CUDA '
        "driver version is insufficient for CUDA runtime version ; GPU=-1 ; hostname=h ; file=i ; "
    )


def no_memory_for_weights(machine: Machine, runtime: FakeOnnxRuntime) -> None:
    runtime.refuses = "CUDA failure 2: out of memory ; GPU=0 ; hostname=h ; file=allocator.cc ; "


def an_old_onnxruntime(machine: Machine, runtime: FakeOnnxRuntime) -> None:
    runtime.old, runtime.refuses = True, "CUDA failure 2: out of memory"
    machine.libraries.add("/nowhere/onnxruntime/capi/libonnxruntime_providers_cuda.so")


def an_old_card(machine: Machine, runtime: FakeOnnxRuntime) -> None:
    runtime.refuses = (
        "CUDA failure 209: no kernel image is available for execution on the device ; GPU=0 ; "
    )


REFUSALS = [
    (no_driver, "no GPU to run ONNX Runtime on", "driver is not installed", None),
    (
        not_in_this_wheel,
        "has no CUDA provider",
        "onnxruntime 1.31.1 with AzureExecutionProvider, CPUExecutionProvider",
        "pip uninstall -y onnxruntime onnxruntime-gpu && ",
    ),
    (driver_too_old, "newer CUDA than the driver", "CUDA 12.6", "update NVIDIA's driver"),
    (no_cudnn, "libraries", "libcudnn.so.9: not found", "'onnxruntime-gpu[cuda,cudnn]==1.31.1'"),
    (of_another_cuda, "libraries", "libcublas.so.13: not found; libcudart", "[cuda,cudnn]"),
    (
        silently_on_the_cpu,
        "would run on the CPU",
        "libonnxruntime_providers_cuda.so: not found",
        "doctor",
    ),
    (a_failing_driver, "cannot use the GPU", "CUDA failure 35: CUDA driver version", "update"),
    (no_memory_for_weights, "cannot use the GPU", "out of memory", "fp16 or a smaller size"),
    (an_old_onnxruntime, "would run on the CPU", "what ONNX Runtime printed", "doctor"),
    (an_old_card, "cannot use the GPU", "no kernel image", "holds no code for the GPU"),
]


@pytest.mark.parametrize(("change", "summary", "found", "fix"), REFUSALS)
def test_what_it_lacks_is_named_and_the_cpu_taken_only_by_auto(
    bundle: Path,
    machine: Machine,
    runtime: FakeOnnxRuntime,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[Machine, FakeOnnxRuntime], None],
    summary: str,
    found: str,
    fix: str | None,
) -> None:
    change(machine, runtime)
    with pytest.raises(BackendError, match=summary) as caught:
        FewShotSegmenter.load(bundle, backend="onnxruntime_cuda")
    assert found in str(caught.value.found)
    assert fix is None or fix in str(caught.value.fix)
    with caplog.at_level(logging.INFO, "hsnet_trt"), FewShotSegmenter.load(bundle) as segmenter:
        assert segmenter.backend == "onnxruntime"
    assert found in caplog.text
    # A GPU that stands idle is worth a warning.
    assert caplog.records[-1].levelname == ("WARNING" if machine.driver.gpus else "INFO")


@pytest.mark.parametrize("old", [False, True])
def test_a_gpu_that_fails_later_is_not_replaced_by_the_cpu(
    bundle: Path, machine: Machine, runtime: FakeOnnxRuntime, red_shot: Shot, old: bool
) -> None:
    runtime.old = old
    with FewShotSegmenter.load(bundle) as segmenter:
        runtime.fails = (
            "Non-zero status code returned while running Conv node. Status Message: "
            "bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 939524096"
        )
        with pytest.raises(BackendError, match="failed in features") as caught:
            segmenter.set_support("red", *red_shot)
    assert "939524096" in str(caught.value.found)
    assert "fewer pictures at once, or take precision fp16" in str(caught.value.fix)


def test_an_altered_graph_is_not_passed_over(
    tmp_path: Path, machine: Machine, runtime: FakeOnnxRuntime
) -> None:
    path = make_bundle(tmp_path / "b")
    file = next((path / "graphs").glob("match*"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="altered"):
        FewShotSegmenter.load(path)


def test_what_a_removed_package_leaves_is_not_the_package(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(BackendError, match="cannot be loaded") as caught:
        FewShotSegmenter.load(bundle, backend="onnxruntime")
    assert "--force-reinstall" in str(caught.value.fix)
