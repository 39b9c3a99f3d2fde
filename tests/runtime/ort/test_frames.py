"""Whole frames around ONNX Runtime on a GPU that is not there: what comes out, in which order."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from helpers.bundles.half import both
from helpers.bundles.tiny import make_bundle
from helpers.fakes.gpu import install
from helpers.fakes.onnxruntime import FakeOnnxRuntime, install_onnxruntime
from helpers.fakes.pycuda import FakeDriver
from helpers.pictures.frame_answers import LEVEL, assert_alike, pictures
from helpers.pictures.scenes import GREEN, RED, as_a_camera_gives_it

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BackendError
from hsnet_trt.runtime import backends
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.device.driver_types import OutOfGpuMemory
from hsnet_trt.runtime.device.gpu_lock import GpuLock
from hsnet_trt.runtime.device.machine import Driver, Gpu
from hsnet_trt.runtime.frames.frame_pipeline import GpuFrames
from hsnet_trt.runtime.network import Network
from hsnet_trt.runtime.ort import cuda as onnxruntime_cuda
from hsnet_trt.runtime.ort import device_session as onnxruntime_device
from hsnet_trt.runtime.ort.runner import OnnxRuntimeRunner

Shot = tuple[np.ndarray, np.ndarray]
BOTH = {"pycuda": True, "bindings": True}


class Machine:
    """A card with a CUDA library and ONNX Runtime, and what happened on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **libraries: bool) -> None:
        self.driver = FakeDriver()
        libraries = libraries or BOTH
        install(monkeypatch, self.driver, types.ModuleType("no_tensorrt"), **libraries)
        self.runtime = FakeOnnxRuntime(device=self.driver)
        install_onnxruntime(monkeypatch, self.runtime)
        self.memory = 80 * 2**30
        monkeypatch.setattr(backends, "find_driver", lambda: Driver("13.0", (self.card,)))
        monkeypatch.setattr(onnxruntime_cuda, "_problem", lambda library: None)

    @property
    def card(self) -> Gpu:
        return Gpu(0, "Fake card", "8.9", self.memory, False)


@pytest.fixture
def machine(packaged_kernels: bytes, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def frames_of(segmenter: FewShotSegmenter) -> Any:
    return segmenter._network.runner.frames


def test_the_fake_binds_as_the_real_package() -> None:
    fake = FakeOnnxRuntime()

    def names(function: Callable[..., object]) -> list[tuple[str, object]]:
        return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]

    for name in ("io_binding", "run_with_iobinding"):
        real, ours = (getattr(m.InferenceSession, name) for m in (onnxruntime, fake))
        assert names(ours) == names(real), name
    for name in ("bind_input", "bind_output"):
        real, ours = (getattr(m.IOBinding, name) for m in (onnxruntime, fake))
        assert names(ours) == names(real), name


@pytest.mark.parametrize("memory", [80 * 2**30, 2 * 10**9], ids=["one call", "chunks of shots"])
@pytest.mark.parametrize(
    "libraries",
    [{"pycuda": True}, BOTH, {"pycuda": False, "bindings": True}],
    ids=["pycuda", "pycuda with graphs", "cuda-bindings"],
)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.usefixtures("packaged_kernels")
def test_frames_on_the_gpu_give_what_the_cpu_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot, green_shot: Shot,
    libraries: dict[str, bool], memory: int, precision: str,
) -> None:  # fmt: skip
    """One class; then two with six shots; by every call; each size in turn."""
    machine = Machine(monkeypatch, **libraries)
    machine.memory = memory
    path, queries = both(tmp_path / "b"), pictures(6)
    near = 2 * LEVEL if precision == "fp32" else 0.03
    here = FewShotSegmenter.load(path, backend="onnxruntime_cuda", precision=precision)
    with here, FewShotSegmenter.load(path, backend="onnxruntime", precision="fp32") as there:
        assert isinstance(frames_of(here), GpuFrames)
        for segmenter in (here, there):
            segmenter.set_support("green", *green_shot)
        for query in queries[:3]:
            assert_alike(here.segment(query), there.segment(query), near)
        for segmenter in (here, there):
            segmenter.set_support("red", [red_shot[0]] * 5, [red_shot[1]] * 5)
        machine.runtime.fed.clear()
        expected = [there.segment(query) for query in queries]
        assert machine.runtime.fed == set()
        for found in (
            [here.segment(query) for query in queries],
            here.segment_batch(queries),
            [frame.result for frame in here.stream(queries, slots=3, scores=True)],
        ):
            for one, other in zip(found, expected, strict=True):
                assert_alike(one, other, near)
        dtype = np.float32 if precision == "fp32" else np.float16
        assert machine.runtime.fed == {np.dtype(dtype)}
        with ThreadPoolExecutor(4) as pool:
            for one, other in zip(pool.map(here.segment, queries), expected, strict=True):
                assert_alike(one, other, near)
        assert (machine.runtime.replays > 6) == ("bindings" in libraries)
    assert machine.driver.settled()


def test_it_says_where_it_runs_and_takes_bgr(
    bundle: Path, machine: Machine, red_shot: Shot
) -> None:
    with FewShotSegmenter.load(bundle) as segmenter:
        assert segmenter.backend == "onnxruntime_cuda"
        options = machine.runtime.options
        (stream,) = {o["user_compute_stream"] for o in options}
        assert int(stream) in {s.number for s in machine.driver.streams}
        # Supports are encoded by arrays.
        assert ["enable_cuda_graph" in o for o in options] == [True, False, True]
        segmenter.set_support("red", *red_shot)
        for query in pictures(3):
            expected = segmenter.segment(query)
            found = segmenter.segment(as_a_camera_gives_it(query, 13), color="bgr")
            np.testing.assert_array_equal(found.labels, expected.labels)
            assert expected.masks["red"].any()
    assert machine.driver.settled()


def test_nothing_is_allocated_bound_or_copied_after_the_first_frames(
    bundle: Path, machine: Machine, red_shot: Shot, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = pictures(1)[0]
    with FewShotSegmenter.load(bundle) as segmenter:
        segmenter.set_support("red", [red_shot[0]] * 6, [red_shot[1]] * 6)
        stream = segmenter.stream([query] * 14, slots=2)
        for _ in range(4):
            next(stream)
        before = machine.driver.allocations, machine.runtime.captures, len(machine.driver.copies)
        monkeypatch.setattr(onnxruntime_device.DeviceSession, "_bind", None)
        assert len(list(stream)) == 10 and machine.runtime.waits == 0
        assert (machine.driver.allocations, machine.runtime.captures) == before[:2]
        copies = machine.driver.copies[before[2] :]
        # Pixels up; counts and labels down. One or two frames were under way already.
        assert copies.count("in") in (9, 10)
        assert copies.count("out") == 2 * copies.count("in")
    assert machine.driver.settled()


def test_other_supports_are_other_graphs_and_not_ever_more(
    bundle: Path, machine: Machine, red_shot: Shot, green_shot: Shot,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level("INFO", "hsnet_trt")
    monkeypatch.setattr(onnxruntime_device, "_MOST_GRAPHS", 3)
    monkeypatch.setattr(onnxruntime_device, "_MOST_BOUND", 4)
    query = pictures(1)[0]
    with FewShotSegmenter.load(bundle) as segmenter:
        for count in range(1, 9):
            shot = (red_shot, green_shot)[count % 2]
            segmenter.set_support("thing", [shot[0]] * count, [shot[1]] * count)
            colour = np.all(query == (RED, GREEN)[count % 2], axis=2)
            found = [segmenter.segment(query).masks["thing"] for _ in range(3)]
            for mask in found:
                assert mask[colour].mean() > 0.8
        assert machine.runtime.captures == 1 + 3
    assert [r.getMessage() for r in caplog.records if "graphs" in r.getMessage()] == [
        "match has 3 CUDA graphs, and makes no more"
    ]
    assert machine.driver.settled()


def test_graphs_are_captured_while_no_other_thread_talks_to_the_driver(
    bundle: Path, machine: Machine, red_shot: Shot
) -> None:
    """Which would refuse it: the capture of another library is a global one."""
    queries = pictures(24)
    with FewShotSegmenter.load(bundle) as segmenter:
        segmenter.set_support("red", *red_shot)
        expected = [segmenter.segment(query) for query in queries]
        for _ in range(3):
            with ThreadPoolExecutor(6) as pool:
                for one, other in zip(pool.map(segmenter.segment, queries), expected, strict=True):
                    np.testing.assert_array_equal(one.labels, other.labels)
        assert machine.runtime.captures > 2
    assert machine.driver.settled()


def test_a_lock_is_quiet_while_nobody_waits() -> None:
    lock = GpuLock()
    with lock:
        assert (
            lock.quiet
            and not ThreadPoolExecutor(1).submit(lambda: lock.acquire(blocking=False)).result()
        )
    with lock.waiting():
        with lock:
            assert not lock.quiet
        assert lock.acquire(blocking=False)
        lock.release()
    with lock:
        assert lock.quiet


def test_what_cannot_be_captured_goes_without(
    bundle: Path, machine: Machine, red_shot: Shot, caplog: pytest.LogCaptureFixture
) -> None:
    """A capture that fails is ended, and the stream goes on."""
    machine.runtime.uncapturable = "operation not permitted when stream is capturing"
    with FewShotSegmenter.load(bundle) as segmenter:
        segmenter.set_support("red", *red_shot)
        results = [segmenter.segment(pictures(1)[0]) for _ in range(3)]
        assert results[0].masks["red"].any()
        for result in results[1:]:
            np.testing.assert_array_equal(result.labels, results[0].labels)
    told = [r.getMessage() for r in caplog.records if "without CUDA graphs" in r.getMessage()]
    assert [text.split()[0] for text in told] == ["features", "match"]
    assert not machine.runtime.captures and machine.driver.settled()


def test_a_graph_that_may_not_be_captured_is_opened_without(
    bundle: Path, machine: Machine, red_shot: Shot
) -> None:
    machine.runtime.no_graphs = "all the compute graph nodes have not been partitioned to the CUDA"
    with FewShotSegmenter.load(bundle) as segmenter:
        assert segmenter.backend == "onnxruntime_cuda"
        assert all("enable_cuda_graph" not in o for o in machine.runtime.options)
        segmenter.set_support("red", *red_shot)
        assert segmenter.segment(red_shot[0]).masks["red"].any()
    assert not machine.runtime.captures and machine.driver.settled()


def test_graphs_can_be_declined(bundle: Path, machine: Machine, red_shot: Shot) -> None:
    """To measure what they bring: up to version 1.26, each replay waits for the GPU."""
    opened = Bundle.open(bundle)
    size = opened.manifest.sizes[0]
    graphs = backends.choose_graphs(opened, size, "fp32", device="gpu", lowering="conv2d")
    for options, captures in (({}, 2), ({"enable_cuda_graph": "0"}, 0)):
        machine.runtime.captures = 0
        runner = OnnxRuntimeRunner(opened, graphs, machine.card, options)
        with FewShotSegmenter(Network(opened, runner, size, "")) as segmenter:
            segmenter.set_support("red", *red_shot)
            assert segmenter.segment(red_shot[0]).masks["red"].any()
        assert machine.runtime.captures == captures


def test_an_error_and_memory_that_runs_out_are_of_one_frame_alone(
    bundle: Path, machine: Machine, red_shot: Shot
) -> None:
    with FewShotSegmenter.load(bundle) as segmenter:
        segmenter.set_support("red", *red_shot)
        small = pictures(1)[0]
        segmenter.segment(small)
        machine.runtime.fails = "CUDA failure 2: out of memory ; GPU=0 ; "
        with pytest.raises(BackendError, match="ONNX Runtime failed in features") as caught:
            segmenter.segment(small)
        assert "fewer pictures at once" in str(caught.value.fix)
        machine.runtime.fails = None
        machine.driver.memory_left = 100_000
        with pytest.raises(OutOfGpuMemory):
            segmenter.segment(np.zeros((600, 600, 3), np.uint8))
        machine.driver.memory_left = 10**9

        def spoil(outputs: dict[str, np.ndarray]) -> None:
            outputs.get("logits", np.zeros(1))[...] = np.inf

        # Graphs are of before; runs of other sizes of supports are not.
        machine.runtime.spoil = spoil
        with pytest.raises(BackendError, match="not finite"):
            segmenter.segment(small)
        machine.runtime.spoil = lambda outputs: None
        assert segmenter.segment(red_shot[0]).masks["red"].any()
    assert machine.driver.settled()


def test_a_card_without_room_for_the_tensors_is_named(bundle: Path, machine: Machine) -> None:
    machine.driver.memory_left = 1000
    with pytest.raises(BackendError, match="memory does not suffice"):
        FewShotSegmenter.load(bundle, backend="onnxruntime_cuda")
    assert machine.driver.settled()


def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pycuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]


def for_another_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from hsnet_trt.runtime.ort import frames as onnxruntime_frames

    monkeypatch.setattr(onnxruntime_frames, "find_kernels", lambda bundle, capability: b"none")


def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    from hsnet_trt.runtime.frames import frame_kernels

    monkeypatch.setattr(frame_kernels, "FATBIN", Path("/nowhere"))


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        (no_library, "neither pycuda nor cuda-bindings is installed"),
        (for_another_gpu, "CUDA failed"),
        (no_kernels, "frames.frame_kernels"),
    ],
)
def test_without_what_frames_need_the_cpu_prepares_and_draws(
    bundle: Path, machine: Machine, red_shot: Shot, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, lacks: Callable[[pytest.MonkeyPatch], None], words: str,
) -> None:  # fmt: skip
    lacks(monkeypatch)
    here = FewShotSegmenter.load(bundle, backend="onnxruntime_cuda")
    assert words in caplog.text
    with here, FewShotSegmenter.load(bundle, backend="onnxruntime") as there:
        assert frames_of(here) is None
        for one in (here, there):
            one.set_support("red", *red_shot)
        for frame, query in zip(here.stream(pictures(3)), pictures(3), strict=True):
            assert_alike(frame.result, there.segment(query))
    assert machine.driver.settled()


def test_closing_in_the_middle(tmp_path: Path, machine: Machine, red_shot: Shot) -> None:
    """During a stream, with frames under way; then by losing the segmenter."""
    path = make_bundle(tmp_path / "b")
    segmenter = FewShotSegmenter.load(path)
    segmenter.set_support("red", *red_shot)
    stream = segmenter.stream(pictures(8), slots=3)
    next(stream)
    segmenter.close()
    with pytest.raises(BackendError, match="closed during a stream"):
        next(stream)
    assert machine.driver.settled()
    segmenter = FewShotSegmenter.load(path)
    segmenter.set_support("red", *red_shot)
    segmenter.segment(pictures(1)[0])
    segmenter.close()
    segmenter.close()
    assert machine.driver.settled()
