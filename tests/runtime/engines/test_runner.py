"""The TensorRT runner on a GPU that is not there: its answers, its memory, its failures."""

from __future__ import annotations

import gc
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.columns import columns_match
from helpers.bundles.tiny_graphs import SIZE
from helpers.bundles.with_engines import VERSION, engine_bundle, engines
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.engines.runner import TensorRTRunner
from hsnet_trt.runtime.network import Network

Shot = tuple[np.ndarray, np.ndarray]


@pytest.mark.parametrize("columns", [False, True])
def test_it_gives_what_onnxruntime_gives(
    tmp_path: Path, driver: FakeDriver, red_shot: Shot, green_shot: Shot, columns: bool
) -> None:
    """Six shots and five queries through profiles of 4, from several threads, buffers growing."""
    contents = {"match": columns_match()} if columns else {}
    bundle = engine_bundle(tmp_path / "b", engines(), **contents)
    runner = TensorRTRunner(bundle, engines())
    assert "Fake card" in runner.device
    assert runner.columns == columns
    queries = [np.roll(red_shot[0], 9 * i, axis=1) for i in range(5)]
    with (
        FewShotSegmenter(Network(bundle, runner, SIZE, "")) as here,
        FewShotSegmenter.load(tmp_path / "b", backend="onnxruntime") as there,
    ):
        results = []
        for segmenter in (here, there):
            segmenter.set_support("green", *green_shot)
            first = segmenter.segment(queries[0])
            segmenter.set_support("red", [red_shot[0]] * 5, [red_shot[1]] * 5)
            results.append([first, *segmenter.segment_batch(queries)])
        for one, other in zip(*results, strict=True):
            for name in one.classes:
                np.testing.assert_allclose(one.scores[name], other.scores[name], atol=1e-6)
        with ThreadPoolExecutor(4) as pool:
            for query, found in zip(queries, pool.map(here.segment, queries), strict=True):
                expected = there.segment(query)
                np.testing.assert_allclose(found.scores["red"], expected.scores["red"], atol=1e-6)
        assert driver.device
    assert driver.settled()
    runner.close()


def test_a_profile_that_begins_above_one_is_filled_up(
    tmp_path: Path, driver: FakeDriver, red_shot: Shot, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, driver, fake_tensorrt(driver, VERSION, (3, 3, 3)))
    bundle = engine_bundle(tmp_path / "b", engines(3))
    with (
        FewShotSegmenter(Network(bundle, TensorRTRunner(bundle, engines(3)), SIZE, "")) as here,
        FewShotSegmenter.load(tmp_path / "b", backend="onnxruntime") as there,
    ):
        for segmenter in (here, there):
            segmenter.set_support("red", [red_shot[0]] * 4, [red_shot[1]] * 4)
        one, other = (s.segment(red_shot[0]) for s in (here, there))
        np.testing.assert_allclose(one.scores["red"], other.scores["red"], atol=1e-6)


def test_out_of_memory_says_what_is_needed_and_what_would_fit(
    tmp_path: Path, driver: FakeDriver
) -> None:
    bundle = engine_bundle(tmp_path / "b", engines())
    TensorRTRunner(bundle, engines()).close()
    driver.memory_left = 10_000
    with pytest.raises(BackendError, match="memory does not suffice") as caught:
        TensorRTRunner(bundle, engines())
    assert "MB free, beside the engines' weights" in str(caught.value.expected)
    assert "MB free of 1,000,000 MB" in str(caught.value.found)
    assert driver.settled()


def test_a_broken_launch_is_tried_once_more_with_a_new_context(
    tmp_path: Path, driver: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = engine_bundle(tmp_path / "b", engines())
    runner = TensorRTRunner(bundle, engines())
    images = np.random.default_rng(0).random((2, 3, *SIZE), np.float32)
    expected = runner.run("features", {"image": images})
    with pytest.raises(BackendError, match="outside its profile"):
        runner.run("features", {"image": np.zeros((5, 3, *SIZE), np.float32)})
    features = sys.modules["tensorrt"].engines[0]
    features.contexts[0].broken = True
    found = runner.run("features", {"image": images})
    assert len(features.contexts) == 2 and "made anew" in caplog.text
    np.testing.assert_array_equal(found["f2"], expected["f2"])
    for context in features.contexts:
        context.broken = True
    features.create_execution_context = lambda _: features.contexts[0]
    with pytest.raises(BackendError, match="the launch failed, also with a new context"):
        runner.run("features", {"image": images})
    features.create_execution_context = lambda _: None  # as when memory is short
    for _ in range(2):
        with pytest.raises(BackendError, match="no execution context can be made"):
            runner.run("features", {"image": images})
    del features.create_execution_context
    np.testing.assert_array_equal(runner.run("features", {"image": images})["f2"], expected["f2"])
    runner.close()
    assert driver.settled()


def test_shapes_are_set_only_when_they_change(tmp_path: Path, driver: FakeDriver) -> None:
    runner = TensorRTRunner(bundle := engine_bundle(tmp_path / "b", engines()), engines())
    assert bundle
    (context,) = sys.modules["tensorrt"].engines[0].contexts
    counts = []
    for n in (2, 2, 2, 3, 3):
        runner.run("features", {"image": np.zeros((n, 3, *SIZE), np.float32)})
        counts.append(context.reshaped)
    assert np.diff(counts).tolist() == [0, 0, 1, 0]
    runner.close()


def test_a_forked_process_is_refused_with_words(
    tmp_path: Path, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = TensorRTRunner(engine_bundle(tmp_path / "b", engines()), engines())
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    with pytest.raises(BackendError, match="before the process was forked") as caught:
        runner.run("features", {"image": np.zeros((1, 3, *SIZE), np.float32)})
    assert "spawn" in str(caught.value.fix)
    runner.close()  # the child touches nothing of its parent's
    assert driver.device and driver.retained == 1


def test_a_runner_that_nobody_holds_gives_everything_back(
    tmp_path: Path, driver: FakeDriver
) -> None:
    runner = TensorRTRunner(engine_bundle(tmp_path / "b", engines()), engines())
    assert driver.device
    del runner
    gc.collect()
    assert driver.settled()


@pytest.mark.parametrize("module", ["tensorrt", "pycuda.driver"])
def test_what_is_missing_is_named(
    tmp_path: Path, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    bundle = engine_bundle(tmp_path / "b", engines())
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="cannot be loaded") as caught:
        TensorRTRunner(bundle, engines())
    assert "pip install" in str(caught.value.fix)
