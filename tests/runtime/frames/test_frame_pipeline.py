"""Frames on a GPU that is not there: what comes out, what is allocated, in which order."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.bundles.columns import columns_match
from helpers.bundles.tiny_graphs import SIZE
from helpers.bundles.with_engines import VERSION, engine_bundle, engines
from helpers.fakes.cuda import FakeCuda
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt
from helpers.pictures.frame_answers import assert_alike, pictures
from helpers.pictures.scenes import as_a_camera_gives_it

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BackendError
from hsnet_trt.runtime import backends
from hsnet_trt.runtime.device.machine import Driver, Gpu
from hsnet_trt.runtime.engines.runner import TensorRTRunner
from hsnet_trt.runtime.frames import frame_kernels
from hsnet_trt.runtime.frames.frame_kernels import PREPARE
from hsnet_trt.runtime.frames.frame_pipeline import GpuFrames
from hsnet_trt.runtime.network import Network

Shot = tuple[np.ndarray, np.ndarray]


def load(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    profile: tuple[int, int, int] = (1, 1, 4),
    integrated: bool = False,
    contrast: float = 0.0,
    contents: dict[str, bytes] | None = None,
    refine: bool | None = None,
    **libraries: bool,
) -> tuple[FewShotSegmenter, FakeDriver, Any]:
    driver = FakeDriver()
    driver.integrated = integrated
    bindings = install(monkeypatch, driver, fake_tensorrt(driver, VERSION, profile), **libraries)
    made = engines(profile[2])
    bundle = engine_bundle(path, made, contrast, **(contents or {}))
    network = Network(bundle, TensorRTRunner(bundle, made), SIZE, "", refine)
    return FewShotSegmenter(network), driver, bindings


@pytest.mark.usefixtures("packaged_kernels")
def test_a_loaded_segmenter_takes_two_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FakeDriver()
    install(monkeypatch, driver, fake_tensorrt(driver, VERSION, (1, 1, 4)), pycuda=True)
    card = Gpu(0, "Fake card", "8.9", 10**10, False)
    monkeypatch.setattr(backends, "find_driver", lambda: Driver("13.0", (card,)))
    engine_bundle(tmp_path / "b", engines(4))
    with FewShotSegmenter.load(tmp_path / "b", backend="tensorrt") as segmenter:
        frames = segmenter._network.runner.frames
        assert isinstance(frames, GpuFrames) and len(frames._slots) == 2
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
def test_a_background_contrast_goes_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot, green_shot: Shot
) -> None:
    """Six shots in two chunks of three, each chunk with its own vectors."""
    here, driver, _ = load(
        tmp_path / "b", monkeypatch, contrast=3.0, pycuda=True, profile=(1, 1, 4)
    )
    queries = pictures(3)
    with here, FewShotSegmenter.load(tmp_path / "b", backend="onnxruntime") as there:
        for segmenter in (here, there):
            segmenter.set_support("green", *green_shot)
            segmenter.set_support("red", [red_shot[0]] * 5, [red_shot[1]] * 5)
        for query in queries:
            assert_alike(here.segment(query), there.segment(query))
        engine_bundle(tmp_path / "plain", engines(4))
        with FewShotSegmenter.load(tmp_path / "plain", backend="onnxruntime") as plain:
            plain.set_support("red", *red_shot)
            apart = plain.segment(queries[0]).scores["red"] - here.segment(queries[0]).scores["red"]
            assert np.abs(apart).max() > 0.05
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
@pytest.mark.parametrize(
    ("libraries", "profile", "columns", "refine"),
    [
        ({"pycuda": True}, (1, 1, 4), False, False),
        ({"pycuda": True, "bindings": True}, (1, 1, 4), False, False),
        ({"pycuda": False, "bindings": True}, (1, 1, 4), False, False),
        ({"pycuda": True, "bindings": True}, (3, 3, 3), False, False),
        ({"pycuda": True, "bindings": True}, (1, 1, 4), True, False),
        ({"pycuda": True}, (1, 1, 4), False, True),
    ],
    ids=[
        "pycuda",
        "pycuda with graphs",
        "cuda-bindings",
        "a profile from three",
        "supports as columns",
        "refined",
    ],
)
def test_frames_on_the_gpu_give_what_the_cpu_gives(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    red_shot: Shot,
    green_shot: Shot,
    libraries: dict[str, bool],
    profile: tuple[int, int, int],
    columns: bool,
    refine: bool,
) -> None:
    """One class; then two with six shots in two chunks; by every call; each size in turn."""
    contents = {"match": columns_match()} if columns else None
    here, driver, bindings = load(
        tmp_path / "b",
        monkeypatch,
        profile=profile,
        contents=contents,
        refine=refine,
        **libraries,
    )
    library = "pycuda" if libraries["pycuda"] else "cuda-bindings"
    assert library in here.device
    queries = pictures(6)
    there = FewShotSegmenter.load(tmp_path / "b", backend="onnxruntime", refine=refine)
    with here, there:
        for segmenter in (here, there):
            segmenter.set_support("green", *green_shot)
        for query in queries[:3]:
            assert_alike(here.segment(query), there.segment(query))
        for segmenter in (here, there):
            segmenter.set_support("red", [red_shot[0]] * 5, [red_shot[1]] * 5)
        expected = [there.segment(query) for query in queries]
        assert expected[0].masks["red"].any() and expected[0].masks["green"].any()
        for found in (
            [here.segment(query) for query in queries],
            here.segment_batch(queries),
            [frame.result for frame in here.stream(queries, slots=3, scores=True)],
        ):
            for one, other in zip(found, expected, strict=True):
                assert_alike(one, other)
                assert set(one.timing) == set(other.timing)
                assert all(ms >= 0 for ms in one.timing.values())
        with ThreadPoolExecutor(4) as pool:
            for one, other in zip(pool.map(here.segment, queries), expected, strict=True):
                assert_alike(one, other)
        assert (bindings is not None and bindings.replays > 6) == ("bindings" in libraries)
    assert driver.settled()


def pitch_and_swap(driver: FakeDriver) -> list[tuple[int, int]]:
    """What the kernel that prepares a frame was given, at each of its launches."""
    arguments = [PREPARE.unpack(a) for name, a in driver.launches if "prepare" in name]
    return [(argument[6], argument[15]) for argument in arguments]


@pytest.mark.usefixtures("packaged_kernels")
@pytest.mark.parametrize("integrated", [False, True])
def test_a_cameras_frames_are_taken_as_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot, integrated: bool
) -> None:
    """BGR, whose rows lie apart: the kernel turns it round, and the masks are RGB's to the bit."""
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch, integrated=integrated)
    queries = pictures(4)
    with segmenter:
        segmenter.set_support("red", *red_shot)
        expected = [segmenter.segment(query) for query in queries]
        assert expected[0].masks["red"].any()
        driver.launches.clear()
        for padding in (0, 13):
            given = [as_a_camera_gives_it(query, padding) for query in queries]
            streamed = list(segmenter.stream(given, scores=True, color="bgr"))
            for frame, source in zip(streamed, given, strict=True):
                assert frame.image is not None and np.shares_memory(frame.image, source)
            for found in (
                [segmenter.segment(picture, color="bgr") for picture in given],
                segmenter.segment_batch(given, color="bgr"),
                [frame.result for frame in streamed],
            ):
                for one, other in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(one.labels, other.labels)
                    np.testing.assert_array_equal(one.scores["red"], other.scores["red"])
        prepared = pitch_and_swap(driver)
        assert len(prepared) == 24 and {swap for _, swap in prepared} == {1}
        assert {pitch for pitch, _ in prepared} == {3 * query.shape[1] for query in queries}
        wrong = segmenter.segment(as_a_camera_gives_it(queries[0]))
        assert pitch_and_swap(driver)[-1][1] == 0
        assert (wrong.labels != expected[0].labels).any()
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
@pytest.mark.parametrize("refine", [False, True])
def test_no_allocation_and_no_shape_after_the_first_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot, refine: bool
) -> None:
    """Nor does anything cross the bus but pixels, the counts and the labels."""
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch, bindings=True, refine=refine)
    query = pictures(1)[0]
    with segmenter:
        segmenter.set_support("red", [red_shot[0]] * 6, [red_shot[1]] * 6)
        stream = segmenter.stream([query] * 14, slots=2)
        for _ in range(4):
            next(stream)
        contexts = [e.contexts[0] for e in sys.modules["tensorrt"].engines]
        before = driver.allocations, [c.reshaped for c in contexts], len(driver.copies)
        taken = 0
        for frame in stream:
            taken += 1
            assert frame.result is not None and frame.result.scores == {}
        assert taken == 10
        assert driver.allocations == before[0]
        assert [c.reshaped for c in contexts] == before[1]
        copies = driver.copies[before[2] :]
        # Of each frame, pixels up; counts and labels down. One or two were under way already.
        ups = copies.count("in")
        assert ups in (9, 10) and copies.count("out") == 2 * ups
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
@pytest.mark.parametrize("pays", [True, False])
def test_an_integrated_gpu_maps_memory_if_that_was_measured_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot, pays: bool
) -> None:
    times = {False: 2.0 if pays else 1.0, True: 1.5}
    asked = []

    def elapsed(self: FakeCuda, start: object, end: object) -> float:
        mapped = len(asked) >= 5
        asked.append(mapped)
        return times[mapped]

    with monkeypatch.context() as patch:
        patch.setattr(FakeCuda, "elapsed", elapsed)
        segmenter, driver, _ = load(tmp_path / "b", monkeypatch, integrated=True)
    assert len(asked) == 10
    with segmenter, FewShotSegmenter.load(tmp_path / "b", backend="onnxruntime") as there:
        frames = segmenter._network.runner.frames
        assert frames is not None and frames.mapped == pays
        for one in (segmenter, there):
            one.set_support("red", *red_shot)
        before = len(driver.copies)
        for query in pictures(3):
            assert_alike(segmenter.segment(query), there.segment(query))
        # What is left to copy: tables and supports once, and the counts.
        assert len(driver.copies) - before >= 6
        mapped = [f.result for f in segmenter.stream([query] * 3)]
        copies = driver.copies[-3 * (1 if pays else 3) :]
        assert len(mapped) == 3 and copies.count("in") == (0 if pays else 3)
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
@pytest.mark.parametrize("refine", [False, True])
def test_logits_that_are_not_finite_are_an_error_of_that_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot, refine: bool
) -> None:
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch, refine=refine)
    with segmenter:
        segmenter.set_support("red", *red_shot)
        session = sys.modules["tensorrt"].engines[2].session
        true_run = session.run
        calls: list[int] = []

        class Spoiled:
            get_outputs = session.get_outputs

            def run(self, outputs: Any, feed: Any) -> Any:
                calls.append(1)
                answer = true_run(outputs, feed)
                if len(calls) == 2:
                    answer[0][:] = np.inf
                return answer

        sys.modules["tensorrt"].engines[2].session = Spoiled()
        found = list(segmenter.stream(pictures(4)))
        assert [f.error is None for f in found] == [True, False, True, True]
        assert "not finite" in str(found[1].error)
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
def test_closing_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot
) -> None:
    """During a stream, with frames under way; then by losing a stream; then by an exception."""
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch)
    segmenter.set_support("red", *red_shot)
    stream = segmenter.stream(pictures(8), slots=3)
    next(stream)
    segmenter.close()
    with pytest.raises(BackendError, match="closed during a stream"):
        next(stream)
    assert driver.settled()
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch)
    segmenter.set_support("red", *red_shot)
    for frame in segmenter.stream(pictures(8)):
        assert frame.result is not None
        break
    with pytest.raises(ZeroDivisionError), segmenter:
        for frame in segmenter.stream(pictures(8)):
            assert frame.index / 0
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
def test_memory_that_runs_out_for_a_frame_fails_that_frame_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot
) -> None:
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch)
    small = pictures(1)[0]
    with segmenter:
        segmenter.set_support("red", *red_shot)
        segmenter.segment(small)
        driver.memory_left = 100_000
        with pytest.raises(BackendError, match="memory does not suffice"):
            segmenter.segment(np.zeros((600, 600, 3), np.uint8))
        driver.memory_left = 10**9
        for size in (600, 128):
            assert segmenter.segment(np.zeros((size, size, 3), np.uint8)).labels.shape[0] == size
    assert driver.settled()


def test_without_compiled_kernels_the_cpu_prepares_and_draws(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    red_shot: Shot,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(frame_kernels, "FATBIN", tmp_path / "none")
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch)
    assert "frames.frame_kernels" in caplog.text
    with segmenter, FewShotSegmenter.load(tmp_path / "b", backend="onnxruntime") as there:
        for one in (segmenter, there):
            one.set_support("red", *red_shot)
        for frame, query in zip(segmenter.stream(pictures(3)), pictures(3), strict=True):
            assert_alike(frame.result, there.segment(query))
    assert driver.settled()
