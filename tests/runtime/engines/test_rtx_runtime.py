"""What TensorRT for RTX has of its own: its cache of compiled kernels, its CUDA graphs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.bundles.tiny_graphs import SIZE
from helpers.bundles.with_engines import VERSION, engine_bundle, engines
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import FakeEngine, fake_tensorrt

from hsnet_trt.runtime.device import kernel_cache
from hsnet_trt.runtime.engines.runner import TensorRTRunner


class Cache:
    """As `IRuntimeCache`: takes what it wrote itself, and nothing else."""

    def __init__(self) -> None:
        self.content = b"RTX: empty"

    def deserialize(self, blob: bytes) -> bool:
        if not blob.startswith(b"RTX"):
            return False
        self.content = blob
        return True

    def serialize(self) -> bytes:
        return self.content


class Config:
    def __init__(self) -> None:
        self.cuda_graph_strategy = "disabled"
        self.strategy = self.cache = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> Cache:
        return Cache()

    def set_runtime_cache(self, cache: Any) -> bool:
        self.cache = cache
        return True


@pytest.fixture
def rtx(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, packaged_kernels: bytes
) -> tuple[FakeDriver, list[Config]]:
    """An RTX flavour whose engines compile something on every start."""
    driver, configs = FakeDriver(), []
    module: Any = fake_tensorrt(driver, VERSION)
    module.CudaGraphStrategy = type("CudaGraphStrategy", (), {"WHOLE_GRAPH_CAPTURE": "whole"})
    install(monkeypatch, driver, module, bindings=True)
    plain = FakeEngine.create_execution_context

    def config(self: FakeEngine) -> Config:
        configs.append(Config())
        return configs[-1]

    def create(self: FakeEngine, given: Config) -> Any:
        assert given.cuda_graph_strategy == "whole" and given.cache is not None
        given.cache.content += b" compiled"
        return plain(self, given.strategy)

    monkeypatch.setattr(FakeEngine, "create_runtime_config", config, raising=False)
    monkeypatch.setattr(FakeEngine, "create_execution_context", create)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return driver, configs


def test_what_it_compiled_is_kept_and_its_graphs_are_its_own(
    tmp_path: Path, rtx: tuple[FakeDriver, list[Config]]
) -> None:
    driver, configs = rtx
    bundle = engine_bundle(tmp_path / "b", engines())
    for start in (1, 2):
        runner = TensorRTRunner(bundle, engines())
        assert runner.frames is not None and runner.frames._steps._network._replay.graphs is None
        runner.run("features", {"image": np.zeros((1, 3, *SIZE), np.float32)})
        assert [c.cache.content.count(b"compiled") for c in configs[-3:]] == [start] * 3  # type: ignore[attr-defined]
        runner.close()
        kept = sorted((tmp_path / "cache/hsnet_trt").iterdir())
        assert len(kept) == 3 and kept[0].stat().st_mode & 0o077 == 0
    assert driver.settled()


@pytest.mark.parametrize("harm", ["another version", "writable by others"])
def test_a_cache_that_cannot_be_trusted_is_not_read(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "hsnet_trt" / "x.rtxcache"
    cache = Cache()
    cache.content = b"RTX: compiled"
    kernel_cache.keep(cache, file)
    assert kernel_cache.open_cache(Config(), file).content == b"RTX: compiled"
    if harm == "another version":
        file.write_bytes(b"other")
    else:
        file.chmod(0o666)
    assert kernel_cache.open_cache(Config(), file).content == b"RTX: empty"
    if harm != "another version" and os.name == "posix":
        assert "others can write there" in caplog.text


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    kernel_cache.keep(Cache(), tmp_path / "taken" / "x.rtxcache")
    assert "cannot be written" in caplog.text
