"""`lowering="auto"`: the fastest form of `match` is found by time, remembered, and said."""

from __future__ import annotations

import dataclasses
import logging
import pickle
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.bundles.tiny import in_two_forms, make_bundle
from helpers.bundles.tiny_graphs import SIZE, make_graph
from helpers.bundles.with_engines import VERSION, engines
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BackendError, BundleError
from hsnet_trt.runtime import backends, lowering_choice
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.device import kernel_cache
from hsnet_trt.runtime.device.machine import Driver, Gpu
from hsnet_trt.runtime.network import Network
from hsnet_trt.runtime.ort.cuda import CudaChoice

Shot = tuple[np.ndarray, np.ndarray]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hsnet_trt"


@pytest.fixture
def several(tmp_path: Path) -> Path:
    return in_two_forms(tmp_path / "b")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What a frame takes, by the file of its `match`; timed forms are noted under "asked"."""
    times = {"graphs/match_96x128.onnx": 4.0, "graphs/match_conv3d.onnx": 3.0}
    read = Bundle.read
    last: list[str] = []

    def noted(self: Bundle, file: str) -> bytes:
        last.append(file)
        return read(self, file)

    def frame_ms(self: Network) -> float:
        times["asked"] = times.get("asked", 0) + 1
        return times[next(file for file in reversed(last) if "match" in file)]

    monkeypatch.setattr(Bundle, "read", noted)
    monkeypatch.setattr(Network, "frame_ms", frame_ms)
    return times


def test_the_fastest_is_taken_and_remembered(
    several: Path, clock: dict[str, float], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "hsnet_trt"):
        first = FewShotSegmenter.load(several, lowering="auto")
    assert first._network.lowering == "conv3d" and clock["asked"] == 2
    assert "lowering conv3d, the fastest here" in first.backend_reason
    assert "conv2d 4.00 ms, conv3d 3.00 ms a frame, timed now" in caplog.text
    (kept,) = cache.glob("lowering-*.json")
    assert kept.stat().st_mode & 0o077 == 0
    clock["graphs/match_conv3d.onnx"] = 9.0
    with first, FewShotSegmenter.load(several, lowering="auto") as second:
        assert "conv3d 3.00 ms a frame, remembered" in second.backend_reason
        assert clock["asked"] == 2
        with pickle.loads(pickle.dumps(second)) as copy:
            assert copy._network.lowering == "conv3d" and clock["asked"] == 2


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"no json",
        b"[]",
        b'{"other": 1.0}',
        b'{"conv2d": null}',
        b'{"conv2d": "fast"}',
        b'{"conv2d": NaN}',
    ],
)
def test_what_is_remembered_wrongly_is_timed_again(
    several: Path, clock: dict[str, float], cache: Path, broken: bytes
) -> None:
    FewShotSegmenter.load(several, lowering="auto").close()
    (kept,) = cache.glob("lowering-*.json")
    kept.write_bytes(broken)
    FewShotSegmenter.load(several, lowering="auto").close()
    assert clock["asked"] == 4


def test_another_machine_version_or_graph_is_timed_anew(
    several: Path, clock: dict[str, float], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FewShotSegmenter.load(several, lowering="auto").close()
    from hsnet_trt.runtime.ort import runner as onnxruntime_runner

    monkeypatch.setattr(onnxruntime_runner, "find_cpu", lambda: "Another CPU")
    FewShotSegmenter.load(several, lowering="auto").close()
    assert clock["asked"] == 4 and len(list(cache.glob("lowering-*.json"))) == 2


def test_another_limit_of_the_gpus_memory_is_timed_anew() -> None:
    runner: Any = types.SimpleNamespace(backend="onnxruntime_cuda", device="card", precision="fp16")

    def file(memory: int | None) -> Path:
        form = lowering_choice.Form("conv2d", "0" * 64, CudaChoice(memory))
        return lowering_choice._file(SIZE, runner, {"conv2d": form})

    assert len({file(None), file(10**9), file(2 * 10**9)}) == 3
    assert file(10**9) == file(10**9)


def test_a_cache_that_others_can_write_to_is_not_believed(
    several: Path, clock: dict[str, float], cache: Path
) -> None:
    if not hasattr(kernel_cache.os, "getuid"):
        pytest.skip("Windows has no such modes")
    FewShotSegmenter.load(several, lowering="auto").close()
    (kept,) = cache.glob("lowering-*.json")
    kept.chmod(0o666)
    FewShotSegmenter.load(several, lowering="auto").close()
    assert clock["asked"] == 4


def test_one_form_is_no_choice(tmp_path: Path, clock: dict[str, float], cache: Path) -> None:
    with FewShotSegmenter.load(make_bundle(tmp_path / "one"), lowering="auto") as segmenter:
        assert "lowering" not in segmenter.backend_reason
    assert "asked" not in clock and not cache.exists()


def test_a_form_can_be_named(several: Path) -> None:
    with FewShotSegmenter.load(several, lowering="conv3d") as segmenter:
        assert segmenter._network.lowering == "conv3d"
    with pytest.raises(BundleError, match="does not hold") as caught:
        FewShotSegmenter.load(several, backend="onnxruntime", lowering="conv4d")
    assert "lowered as conv4d" in str(caught.value.expected)
    assert "match fp32 conv3d" in str(caught.value.found)


def test_a_form_that_fails_is_left_out(
    several: Path, clock: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    true = Network.frame_ms

    def fails(self: Network) -> float:
        if true(self) == 3.0:
            raise BackendError("no memory")
        return 4.0

    monkeypatch.setattr(Network, "frame_ms", fails)
    with FewShotSegmenter.load(several, lowering="auto") as segmenter:
        assert segmenter._network.lowering == "conv2d"


def test_it_really_times(several: Path, red_shot: Shot) -> None:
    with FewShotSegmenter.load(several, lowering="auto") as segmenter:
        assert "timed now" in segmenter.backend_reason
        segmenter.set_support("red", *red_shot)
        assert segmenter.segment(red_shot[0]).masks["red"].any()


@pytest.mark.usefixtures("packaged_kernels")
def test_engines_are_timed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames on the GPU; every engine is closed again but the one that runs."""
    driver = FakeDriver()
    install(monkeypatch, driver, fake_tensorrt(driver, VERSION, (1, 1, 4)), pycuda=True)
    card = Gpu(0, "Fake card", "8.9", 10**10, False)
    monkeypatch.setattr(backends, "find_driver", lambda: Driver("13.0", (card,)))
    made = engines(4)
    match = made["match"]
    variant = dataclasses.replace(match.variant, lowering="conv3d")
    other = dataclasses.replace(match, variant=variant, file="engines/conv3d.engine")
    for graph in ("features", "support"):
        v = dataclasses.replace(made[graph].variant, lowering="")
        made[graph] = dataclasses.replace(made[graph], variant=v)
    monkeypatch.setattr("hsnet_trt.runtime.network._SECONDS", 0.05)
    files = {e.file: make_graph(g, SIZE)[0] for g, e in made.items()}
    files[other.file] = make_graph("match", SIZE)[0]
    path = make_bundle(tmp_path / "b", replace={"engines": (*made.values(), other)}, extra=files)
    with FewShotSegmenter.load(path, "tensorrt", lowering="auto") as segmenter:
        assert "conv2d" in segmenter.backend_reason and "conv3d" in segmenter.backend_reason
        assert segmenter.backend == "tensorrt"
    assert driver.settled()
