"""ONNX Runtime on a GPU that is not there: when it is taken, what it gets, how it is refused."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import os
import pickle
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from helpers.bundles.half import both
from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import SIZE, make_graph
from helpers.fakes.onnxruntime import CPU, FakeOnnxRuntime, install_onnxruntime
from helpers.places import ROOT

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BackendError, BundleError, InputError
from hsnet_trt.runtime import backends
from hsnet_trt.runtime.bundle.manifest import Growth, PackedLevel
from hsnet_trt.runtime.device.machine import Driver, Gpu
from hsnet_trt.runtime.matching.runner import Limits
from hsnet_trt.runtime.network import Network
from hsnet_trt.runtime.ort import cuda as onnxruntime_cuda
from hsnet_trt.runtime.ort.limits import gpu_limits

Shot = tuple[np.ndarray, np.ndarray]
GPU = Gpu(0, "Fake card", "9.0", 80 * 2**30, False)
LIBRARIES = ("libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudart.so.13")
CUDNN = "libcudnn.so.9"


class Machine:
    """A machine with a GPU: its driver and the libraries that its loader finds."""

    def __init__(self) -> None:
        self.driver = Driver("13.0", (GPU,))
        self.libraries = {*LIBRARIES, CUDNN}

    def load(self, library: str) -> str | None:
        return None if library in self.libraries else f"{library}: not found"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(backends, "find_driver", lambda: machine.driver)
    monkeypatch.setattr(onnxruntime_cuda, "_problem", machine.load)
    monkeypatch.setattr(onnxruntime_cuda, "_folders", lambda: iter(()))
    return machine


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeOnnxRuntime:
    fake = FakeOnnxRuntime()
    install_onnxruntime(monkeypatch, fake)
    return fake


def test_the_fake_has_the_surface_of_the_real_package() -> None:
    fake = FakeOnnxRuntime()

    def arguments(function: Callable[..., object]) -> list[tuple[str, object]]:
        found = inspect.signature(function).parameters.values()
        return [(p.name, p.default) for p in found if p.name != "self"]

    for name in ("__version__", "__file__", "package_name", "cuda_version"):
        assert isinstance(getattr(onnxruntime, name), str), name
    for name in (
        "__init__",
        "disable_fallback",
        "get_inputs",
        "get_outputs",
        "get_providers",
        "run",
    ):
        real, ours = (getattr(m.InferenceSession, name) for m in (onnxruntime, fake))
        assert arguments(ours) == arguments(real), name
    assert arguments(fake.preload_dlls) == arguments(onnxruntime.preload_dlls)
    assert CPU in onnxruntime.get_available_providers()
    # `enable_fallback` hides in the keyword arguments.
    content, _ = make_graph("features", SIZE)
    session = onnxruntime.InferenceSession(content, providers=[CPU], enable_fallback=0)
    assert session.get_providers() == [CPU] and session._enable_fallback is False


def test_it_is_the_best_where_there_are_no_engines(
    bundle: Path, machine: Machine, runtime: FakeOnnxRuntime, red_shot: Shot, green_shot: Shot,
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with caplog.at_level(logging.INFO, "hsnet_trt"), FewShotSegmenter.load(bundle) as here:
        assert here.backend == "onnxruntime_cuda"
        assert "not tensorrt_rtx: the bundle holds no engine" in here.backend_reason
        assert here.device == "Fake card (ONNX Runtime 1.31.1, CUDA)"
        chosen = [r for r in caplog.records if r.getMessage().startswith("backend ")]
        assert [r.levelname for r in chosen] == ["INFO"]
        here.set_support("red", *red_shot)
        found = here.segment(green_shot[0])
        with FewShotSegmenter.load(bundle, backend="onnxruntime") as there:
            there.set_support("red", *red_shot)
            expected = there.segment(green_shot[0])
    np.testing.assert_allclose(found.scores["red"], expected.scores["red"], atol=1e-6)
    assert len(runtime.options) == 3
    limits = [int(options["gpu_mem_limit"]) for options in runtime.options]
    assert sum(limits) <= 80 * 2**30 < sum(limits) + 3  # the whole card, and no more
    assert runtime.options[0]["use_tf32"] == "0"
    assert runtime.options[0]["cudnn_conv_algo_search"] == "HEURISTIC"
    assert runtime.options[0]["arena_extend_strategy"] == "kSameAsRequested"
    assert runtime.preloaded == 1 and capsys.readouterr().out == ""


def test_a_card_that_others_use_is_taken_in_part(
    bundle: Path, machine: Machine, runtime: FakeOnnxRuntime
) -> None:
    """The limit bounds the sessions' arenas in all, and what a call is given; pickles keep it."""
    with FewShotSegmenter.load(bundle, gpu_memory=3 * 10**9) as here:
        assert [options["gpu_mem_limit"] for options in runtime.options] == ["1000000000"] * 3
        few = here._network.runner.limits
        with pickle.loads(pickle.dumps(here)) as copy:
            assert copy._network.runner.limits == few
        assert [options["gpu_mem_limit"] for options in runtime.options] == ["1000000000"] * 6
    with FewShotSegmenter.load(bundle) as all_of_it:
        assert all_of_it._network.runner.limits.supports > few.supports
        whole = runtime.options[-1]["gpu_mem_limit"]
    with FewShotSegmenter.load(bundle, gpu_memory=10**15):
        assert runtime.options[-1]["gpu_mem_limit"] == whole
    for senseless in (0, -1):
        with pytest.raises(InputError, match="limit of a GPU's memory"):
            FewShotSegmenter.load(bundle, gpu_memory=senseless)


@pytest.mark.parametrize("faster", ["HEURISTIC", "EXHAUSTIVE"])
def test_auto_times_how_convolutions_are_chosen(
    bundle: Path,
    machine: Machine,
    runtime: FakeOnnxRuntime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    faster: str,
) -> None:
    """With one lowering, too; the answer is remembered, with the limit of memory kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    timed: list[str] = []

    def frame_ms(self: Network) -> float:
        timed.append(runtime.options[-1]["cudnn_conv_algo_search"])
        return 3.0 if timed[-1] == faster else 4.0

    monkeypatch.setattr(Network, "frame_ms", frame_ms)
    with FewShotSegmenter.load(bundle, lowering="auto", gpu_memory=3 * 10**9) as here:
        assert timed == ["HEURISTIC", "EXHAUSTIVE"]
        assert "conv2d exhaustive" in here.backend_reason and "timed now" in here.backend_reason
        assert runtime.options[-1]["cudnn_conv_algo_search"] == faster
        with pickle.loads(pickle.dumps(here)) as copy:
            assert "remembered" in copy.backend_reason and len(timed) == 2
            assert runtime.options[-1]["cudnn_conv_algo_search"] == faster
            assert runtime.options[-1]["gpu_mem_limit"] == "1000000000"


def test_fp16_is_preferred_and_computed_in_fp16(
    tmp_path: Path, machine: Machine, runtime: FakeOnnxRuntime, red_shot: Shot
) -> None:
    with FewShotSegmenter.load(both(tmp_path / "b")) as segmenter:
        assert segmenter.precision == "fp16"
        segmenter.set_support("red", *red_shot)
        assert segmenter.segment(red_shot[0]).masks["red"].any()
        assert runtime.fed == {np.dtype(np.float16)}
        assert {c.values.dtype for shot in segmenter._current.supports for c in shot.values()} == {
            np.dtype(np.float16)
        }
    with FewShotSegmenter.load(tmp_path / "b", precision="fp32") as segmenter:
        assert (segmenter.backend, segmenter.precision) == ("onnxruntime_cuda", "fp32")


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


@pytest.mark.parametrize(
    ("gigabytes", "integrated", "expected"),
    [
        (80, False, Limits(images=16, shots=16, queries=4, supports=16)),
        (8, False, Limits(images=10, shots=16, queries=1, supports=10)),
        (8, True, Limits(images=5, shots=16, queries=1, supports=5)),
        (0, False, Limits(images=1, shots=1, queries=1, supports=1)),
    ],
)
def test_a_call_takes_an_eighth_of_the_memory(
    gigabytes: int, integrated: bool, expected: Limits
) -> None:
    """0.1 GB an image and a pair; `support` is small."""
    graphs = {graph: make_graph(graph, SIZE)[1] for graph in ("features", "support", "match")}
    graphs["support"] = dataclasses.replace(
        graphs["support"], activation_bytes=Growth(constant=1000, per_support=1000)
    )
    gpu = dataclasses.replace(GPU, memory_bytes=gigabytes * 10**9, integrated=integrated)
    assert gpu_limits(graphs, gpu) == expected


def test_no_tensor_has_more_elements_than_32_bits_count() -> None:
    graphs = {graph: make_graph(graph, SIZE)[1] for graph in ("features", "support", "match")}
    graphs["match"] = dataclasses.replace(
        graphs["match"], largest_tensor=Growth(per_pair=2**30 - 1), activation_bytes=Growth()
    )
    limits = gpu_limits(graphs, GPU)
    assert (limits.queries, limits.supports) == (1, 2)


SEARCH = (
    "import sys, types; from hsnet_trt.runtime.ort.cuda import _load_libraries;"
    "sys.path[:] = sys.argv[1:]; print(_load_libraries(types.SimpleNamespace(), '93'))"
)


def test_libraries_are_found_where_wheels_put_them(tmp_path: Path) -> None:
    """Real libraries and the system's loader, in a process of their own: loaded ones stay.

    Of a CUDA that no machine has, so that its own libraries do not count.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler to make libraries with")
    (tmp_path / "empty.c").write_text("")

    def give(folder: str, name: str) -> None:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        out = str(tmp_path / folder / name)
        source = str(tmp_path / "empty.c")
        subprocess.run([compiler, "-shared", f"-Wl,-soname,{name}", "-o", out, source], check=True)

    def missing() -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_HOME": str(tmp_path / "cuda")}
        environment.pop("LD_LIBRARY_PATH", None)
        return subprocess.run(
            [sys.executable, "-c", SEARCH, str(tmp_path)],
            env=environment, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    for name in ("libcublasLt.so.93", "libcudart.so.93"):
        assert f"{name}: not found" in missing()
        give("nvidia/cu93/lib", name)
        assert name not in missing()
    for name in ("libcurand.so.10", CUDNN):
        give(f"nvidia/{name[3:8]}/lib", name)
    give("torch/lib", "libcublas.so.92")
    assert missing() == "['libcublas.so.93: not found (but libcublas.so.92 is here)']"
    give("torch/lib", "libcublas.so.93")
    assert missing() == "[]"
