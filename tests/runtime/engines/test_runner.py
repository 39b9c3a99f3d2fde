"""The TensorRT runner: its flow on a GPU that is not there, its names on real classes."""

from __future__ import annotations

import ast
import dataclasses
import gc
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.bundles.columns import columns_match
from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import SIZE, make_graph
from helpers.bundles.with_engines import VERSION, engine_bundle, engines
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BackendError, BundleError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.manifest import Growth
from hsnet_trt.runtime.device import kernel_cache
from hsnet_trt.runtime.device import memory as arena
from hsnet_trt.runtime.engines import engine, logger
from hsnet_trt.runtime.engines import runner as tensorrt_runner
from hsnet_trt.runtime.engines.runner import TensorRTRunner
from hsnet_trt.runtime.matching.runner import Limits
from hsnet_trt.runtime.network import Network

Shot = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    driver = FakeDriver()
    install(monkeypatch, driver, fake_tensorrt(driver, VERSION))
    return driver


def settled(driver: FakeDriver) -> bool:
    """Nothing is left: no memory, no context on a thread, no hold on the GPU."""
    return driver.settled()


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
    assert settled(driver)
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


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": "10.7.0"}, "is for tensorrt 10.7.0, and 10.3.0 is installed"),
        ({"compute_capabilities": ("8.7",)}, "this GPU has 8.9"),
        ({"platform": "linux-other"}, "linux-other"),
    ],
)
def test_engines_for_something_else_are_not_deserialised(
    tmp_path: Path, driver: FakeDriver, changes: dict[str, object], says: str
) -> None:
    made = engines(**changes)  # type: ignore[arg-type]
    bundle = engine_bundle(tmp_path / "b", made, match=b"bad")
    with pytest.raises(BackendError, match="cannot run here") as caught:
        TensorRTRunner(bundle, made)
    assert says in str(caught.value.found)
    assert settled(driver)


def test_an_altered_engine_is_not_deserialised(tmp_path: Path, driver: FakeDriver) -> None:
    bundle = engine_bundle(tmp_path / "b", engines(), match=b"good engine")
    (tmp_path / "b/engines/match.engine").write_bytes(b"bad engine!")
    with pytest.raises(BundleError, match="altered"):
        TensorRTRunner(bundle, engines())
    assert settled(driver)


def test_a_refused_engine_tells_tensorrts_reason(tmp_path: Path, driver: FakeDriver) -> None:
    bundle = engine_bundle(tmp_path / "b", engines(), match=b"bad")
    with pytest.raises(BackendError, match=r"refuses the engine engines/match\.engine") as caught:
        TensorRTRunner(bundle, engines())
    assert caught.value.found == "the magic tag does not match"
    assert settled(driver)


def watch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done with native code, in order."""
    done: list[str] = []
    runtime = sys.modules["tensorrt"].Runtime
    deserialise = runtime.deserialize_cuda_engine

    def watched(self: Any, content: bytes) -> object:
        done.append(f"engine, host code {self.engine_host_code_allowed}")
        return deserialise(self, content)

    monkeypatch.setattr(runtime, "deserialize_cuda_engine", watched)
    monkeypatch.setattr(
        "hsnet_trt.runtime.engines.plugins.load_plugin",
        lambda trt, name, content: done.append(f"{trt.__version__} {name} {content!r}"),
    )
    return done


def test_plugins_are_loaded_before_engines_and_only_when_their_hash_is_right(
    tmp_path: Path, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = watch(monkeypatch)
    made = engines(plugin="plugins/lib.so")
    files = {e.file: make_graph(g, SIZE)[0] for g, e in made.items()}
    replace = {"engines": tuple(made.values())}
    make_bundle(tmp_path / "b", replace=replace, extra={**files, "plugins/lib.so": b"code"})
    bundle = Bundle.open(tmp_path / "b")
    TensorRTRunner(bundle, made).close()
    assert done == [f"{VERSION} plugins/lib.so b'code'", *["engine, host code False"] * 3]
    (tmp_path / "b/plugins/lib.so").write_bytes(b"evil")
    with pytest.raises(BundleError, match="altered"):
        TensorRTRunner(bundle, made)
    assert len(done) == 4
    assert settled(driver)


def test_only_version_compatible_engines_may_bring_code_for_the_cpu(
    tmp_path: Path, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = watch(monkeypatch)
    made = engines()
    made["support"] = dataclasses.replace(
        made["support"], version="10.1.0", version_compatible=True
    )
    TensorRTRunner(engine_bundle(tmp_path / "b", made), made).close()
    assert done == [f"engine, host code {allowed}" for allowed in (False, True, False)]


def test_an_engine_of_other_tensors(tmp_path: Path, driver: FakeDriver) -> None:
    bundle = engine_bundle(tmp_path / "b", engines(), match=make_graph("support", SIZE)[0])
    with pytest.raises(BackendError, match="not an engine of this version"):
        TensorRTRunner(bundle, engines())
    assert settled(driver)


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


def test_memory_that_suffices_for_a_smaller_profile_names_it(tmp_path: Path) -> None:
    match = make_graph("match", SIZE)[1]
    growth = Growth(constant=10, per_query=0, per_support=0, per_pair=10)
    entry = dataclasses.replace(match, activation_bytes=growth)
    most = Limits(images=4, shots=4, queries=2, supports=10)  # 210 in all
    assert arena._smaller(entry, most, 0.5) == 9
    assert arena._smaller(entry, most, 0.1) == 1
    assert arena._smaller(entry, most, 0.05) is None


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


# What expressions of each file are, so that their attributes can be looked up; "" is the module.
KINDS = {
    tensorrt_runner: {"trt": "", "self._runtime": "Runtime"},
    logger: {"trt": ""},
    engine: {
        "trt": "",
        "self._trt": "",
        "engine": "ICudaEngine",
        "self._engine": "ICudaEngine",
        "self._execution": "IExecutionContext",
        "config": "IRuntimeConfig",
    },
    kernel_cache: {"config": "IRuntimeConfig", "cache": "IRuntimeCache"},
}


def test_every_name_it_uses_exists_in_tensorrt() -> None:
    """The real classes of TensorRT for RTX, by walking the runner's own source."""
    trt = pytest.importorskip("tensorrt_rtx")
    used, missing = set(), []
    for module, kinds in KINDS.items():
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
            if not isinstance(node, ast.Attribute):
                continue
            owner, _, rest = ast.unparse(node).rpartition(".")
            base = owner
            while base and base not in kinds:
                base, _, last = base.rpartition(".")
                rest = f"{last}.{rest}" if base else rest
            if base not in kinds:
                continue
            thing = getattr(trt, kinds[base]) if kinds[base] else trt
            used.add(f"{kinds[base] or 'trt'}.{rest}")
            for name in rest.split("."):
                if not hasattr(thing, name):
                    missing.append(ast.unparse(node))
                    break
                thing = getattr(thing, name)
    assert not missing
    assert {
        "trt.Runtime",
        "trt.ILogger.Severity.ERROR",
        "trt.nptype",
        "trt.ExecutionContextAllocationStrategy.USER_MANAGED",
        "trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE",
        "Runtime.deserialize_cuda_engine",
        "ICudaEngine.create_execution_context",
        "ICudaEngine.create_runtime_config",
        "ICudaEngine.device_memory_size_v2",
        "ICudaEngine.get_tensor_profile_shape",
        "ICudaEngine.num_io_tensors",
        "IExecutionContext.set_device_memory",
        "IExecutionContext.set_input_shape",
        "IExecutionContext.set_tensor_address",
        "IExecutionContext.infer_shapes",
        "IExecutionContext.get_tensor_shape",
        "IExecutionContext.execute_async_v3",
        "IRuntimeConfig.create_runtime_cache",
        "IRuntimeConfig.cuda_graph_strategy",
        "IRuntimeConfig.set_execution_context_allocation_strategy",
        "IRuntimeConfig.set_runtime_cache",
        "IRuntimeCache.deserialize",
        "IRuntimeCache.serialize",
    } <= used


def test_tensorrts_types_are_numpys() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    assert trt.nptype(trt.float32) is np.float32
    assert trt.nptype(trt.float16) is np.float16
