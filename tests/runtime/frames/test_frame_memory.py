"""What frames allocate, copy and map on a GPU, and what is done when memory runs out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.fakes.cuda import FakeCuda
from helpers.fakes.gpu_segmenter import load
from helpers.pictures.frame_answers import assert_alike, pictures

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BackendError

Shot = tuple[np.ndarray, np.ndarray]


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
