"""CUDA graphs of a segmenter's frames, on a GPU that is not there: what happens where one fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.bundles.tiny_graphs import SIZE
from helpers.bundles.with_engines import VERSION, engine_bundle, engines
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt
from helpers.pictures.frame_answers import pictures

from hsnet_trt import FewShotSegmenter
from hsnet_trt.runtime.engines.runner import TensorRTRunner
from hsnet_trt.runtime.network import Network

Shot = tuple[np.ndarray, np.ndarray]
FRAMES = 5  # the first one is launched, the second one captures


class Loaded:
    """A segmenter with one class, and what its GPU was asked for."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, shot: Shot) -> None:
        self.driver = FakeDriver()
        self.tensorrt = fake_tensorrt(self.driver, VERSION, (1, 1, 4))
        self.bindings: Any = install(monkeypatch, self.driver, self.tensorrt, bindings=True)
        made = engines(4)
        bundle = engine_bundle(path, made)
        runner = TensorRTRunner(bundle, made)
        self.segmenter = FewShotSegmenter(Network(bundle, runner, SIZE, ""))
        self.segmenter.set_support("red", *shot)
        self.picture = pictures(1)[0]
        self.labels = self.segment()

    def segment(self) -> np.ndarray:
        return self.segmenter.segment(self.picture).labels

    def segment_rest(self) -> None:
        for _ in range(FRAMES - 1):
            np.testing.assert_array_equal(self.segment(), self.labels)

    def refuse(self, function: str, calls: Callable[[int], bool]) -> None:
        """Let the driver do what it is asked for, and say that it failed, in these calls of it."""
        real, count = getattr(self.bindings, function), iter(range(1000))

        def refusing(*arguments: Any) -> Any:
            found = real(*arguments)
            if not calls(next(count)):
                return found
            if len(found) == 2:  # nobody is given what it made
                self.driver.graphs.pop(id(found[1]))
            return (self.bindings.CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, None)

        setattr(self.bindings, function, refusing)


@pytest.fixture
def loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot, packaged_kernels: bytes
) -> Loaded:
    return Loaded(tmp_path / "b", monkeypatch, red_shot)


def test_networks_are_captured_once_and_replayed(loaded: Loaded) -> None:
    with loaded.segmenter:
        loaded.segment_rest()
        assert loaded.bindings.replays == 2 * (FRAMES - 1)
        assert len(loaded.driver.graphs) == 2
    assert loaded.driver.settled()


@pytest.mark.parametrize("function", ["cuStreamEndCapture", "cuGraphInstantiate"])
@pytest.mark.parametrize("captured", [0, 1])
def test_a_capture_that_fails_costs_no_other_graph(
    loaded: Loaded, function: str, captured: int, caplog: pytest.LogCaptureFixture
) -> None:
    """All that come later fail, too; `features` is the first to be captured, `match` the next."""
    loaded.refuse(function, lambda call: call >= captured)
    with loaded.segmenter:
        loaded.segment_rest()
        assert loaded.bindings.replays == captured * (FRAMES - 1)
    assert loaded.driver.settled()
    warned = [r.getMessage() for r in caplog.records if "without a CUDA graph" in r.getMessage()]
    assert len(warned) == 2 - captured  # once a graph, not once a frame


def test_a_launch_that_fails_in_a_capture_leaves_no_graph_behind(loaded: Loaded) -> None:
    with loaded.segmenter:
        loaded.tensorrt.engines[2].contexts[-1].broken = True
        loaded.segment_rest()
        assert len(loaded.tensorrt.engines[2].contexts) == 2
        assert loaded.bindings.replays == FRAMES - 1
    assert loaded.driver.settled()


def test_a_graph_that_cannot_be_replayed_is_launched_as_usual(loaded: Loaded) -> None:
    """The driver refuses it before anything runs, the first one's second replay alone."""
    replay, calls = loaded.bindings.cuGraphLaunch, iter(range(1000))

    def refusing(*arguments: Any) -> Any:
        if next(calls) == 2:
            return (loaded.bindings.CUresult.CUDA_ERROR_OUT_OF_MEMORY,)
        return replay(*arguments)

    loaded.bindings.cuGraphLaunch = refusing
    with loaded.segmenter:
        loaded.segment_rest()
        assert loaded.bindings.replays == 1 + FRAMES - 1
    assert loaded.driver.settled()


def test_a_graph_that_is_stale_is_destroyed(loaded: Loaded, green_shot: Shot) -> None:
    with loaded.segmenter:
        loaded.segment_rest()
        loaded.segmenter.set_support("green", *green_shot)
        for _ in range(3):
            loaded.segment()
        assert len(loaded.driver.graphs) == 2
    assert loaded.driver.settled()
