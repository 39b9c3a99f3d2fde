"""Frames on a GPU that is not there come out as on the CPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.columns import columns_match
from helpers.bundles.with_engines import VERSION, engine_bundle, engines
from helpers.fakes.gpu import install
from helpers.fakes.gpu_segmenter import load
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt
from helpers.pictures.frame_answers import assert_alike, pictures
from helpers.pictures.scenes import as_a_camera_gives_it

from hsnet_trt import FewShotSegmenter
from hsnet_trt.runtime import backends
from hsnet_trt.runtime.device.machine import Driver, Gpu
from hsnet_trt.runtime.frames import frame_kernels
from hsnet_trt.runtime.frames.frame_kernels import PREPARE
from hsnet_trt.runtime.frames.frame_pipeline import GpuFrames

Shot = tuple[np.ndarray, np.ndarray]


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
