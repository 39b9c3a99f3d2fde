"""Engines and plugins that do not fit or were altered are refused, before their code runs."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import SIZE, make_graph
from helpers.bundles.with_engines import VERSION, engine_bundle, engines
from helpers.fakes.pycuda import FakeDriver

from hsnet_trt.errors import BackendError, BundleError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.engines.runner import TensorRTRunner


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
    assert driver.settled()


def test_an_altered_engine_is_not_deserialised(tmp_path: Path, driver: FakeDriver) -> None:
    bundle = engine_bundle(tmp_path / "b", engines(), match=b"good engine")
    (tmp_path / "b/engines/match.engine").write_bytes(b"bad engine!")
    with pytest.raises(BundleError, match="altered"):
        TensorRTRunner(bundle, engines())
    assert driver.settled()


def test_a_refused_engine_tells_tensorrts_reason(tmp_path: Path, driver: FakeDriver) -> None:
    bundle = engine_bundle(tmp_path / "b", engines(), match=b"bad")
    with pytest.raises(BackendError, match=r"refuses the engine engines/match\.engine") as caught:
        TensorRTRunner(bundle, engines())
    assert caught.value.found == "the magic tag does not match"
    assert driver.settled()


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
    assert driver.settled()


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
    assert driver.settled()
