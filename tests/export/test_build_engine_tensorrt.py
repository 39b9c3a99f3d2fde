"""The full TensorRT's path, and every way a build can die, on a stand-in for `tensorrt` 10.3."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.bundles.real_contract import calls, write_small_bundle

from hsnet_trt.errors import BuildError, InputError
from hsnet_trt.export.build_engine import build_engine
from hsnet_trt.export.engines.events import BuildEvent, LogLine
from hsnet_trt.export.engines.options import BuilderOptions, EngineSpec
from hsnet_trt.runtime.device.machine import Driver, Gpu


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_small_bundle(tmp_path / "bundle", ("fp32",)).path


@pytest.mark.parametrize("target", ["agx-orin-64gb", "this", "sm87"])
def test_a_jetson_builds_for_itself(orin: Path, bundle: Path, target: str) -> None:
    built = build_engine(bundle, target)
    assert [e.variant.graph for e in built.manifest.engines] == ["features", "support", "match"]
    for engine in built.manifest.engines:
        assert (engine.flavour, engine.version) == ("tensorrt", "10.3.0")
        assert engine.compute_capabilities == ("8.7",)
        assert engine.activation_bytes == 4096
        assert engine.target == ("agx-orin-64gb" if target == "agx-orin-64gb" else "sm87")
        assert built.read(engine.file) == b"an engine"
    recorded = calls(orin)
    assert recorded["network_flags"] == 0b10  # strongly typed is bit 1 in TensorRT 10
    assert recorded["cleared"] == ["TF32"]
    assert recorded["flags"] == []
    assert recorded["shapes"]["s2"] == [[1, 1, 8, 64], [1, 1, 8, 64], [5, 1, 8, 64]]


def test_options_reach_the_builder(orin: Path, bundle: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.write_bytes(b"timed")
    options = BuilderOptions(
        workspace=2**30, timing_cache=cache, version_compatible=True, level=1, tf32=True
    )
    build_engine(bundle, "this", spec=EngineSpec(options=options))
    recorded = calls(orin)
    assert recorded["WORKSPACE"] == 2**30
    assert recorded["flags"] == ["VERSION_COMPATIBLE"]
    assert recorded["cleared"] == []
    assert recorded["builder_optimization_level"] == 1
    assert cache.read_bytes() == b"timed+timed+timed+timed"  # once for each engine


def test_a_timing_cache_of_another_tensorrt_is_refused(
    orin: Path, bundle: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.write_bytes(b"another TensorRT")
    with pytest.raises(BuildError, match="timing cache"):
        build_engine(bundle, "this", spec=EngineSpec(options=BuilderOptions(timing_cache=cache)))
    assert cache.read_bytes() == b"another TensorRT"


def test_a_timing_cache_that_cannot_be_kept_is_refused_before_the_build(
    orin: Path, bundle: Path, tmp_path: Path
) -> None:
    for cache in (tmp_path / "nowhere" / "cache", tmp_path):
        spec = EngineSpec(options=BuilderOptions(timing_cache=cache))
        with pytest.raises(InputError, match="cannot be kept"):
            build_engine(bundle, "this", spec=spec)


def test_hardware_compatibility(orin: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = BuilderOptions(hardware_compatible="ampere-plus")
    with pytest.raises(InputError, match="Jetson"):
        build_engine(bundle, "this", spec=EngineSpec(options=options))
    card = Driver("12.6", (Gpu(0, "NVIDIA A100", "8.0", 80 * 2**30, False),))
    monkeypatch.setattr("hsnet_trt.export.build_engine.find_driver", lambda: card)
    built = build_engine(bundle, "a100", spec=EngineSpec(options=options))
    assert {"8.0", "8.6", "8.9", "9.0"} <= set(built.manifest.engines[0].compute_capabilities)
    assert calls(orin)["hardware_compatibility_level"] == 1
    options = BuilderOptions(hardware_compatible="same-compute-capability")
    with pytest.raises(BuildError, match="SAME_COMPUTE_CAPABILITY"):
        build_engine(bundle, "a100", spec=EngineSpec(options=options))


def test_what_the_builder_reports_is_checked_too(
    orin: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Estimated at a few MiB, told by the builder to take 100 GiB: refused, nothing written."""
    monkeypatch.setenv("FAKE_TENSORRT_ACTIVATION", str(100 * 2**30))
    content = (bundle / "bundle.json").read_bytes()
    with pytest.raises(BuildError) as caught:
        build_engine(bundle, "agx-orin-64gb")
    assert "64.0 GiB" in str(caught.value.expected)
    assert "300.0 GiB" in str(caught.value.found)
    assert (bundle / "bundle.json").read_bytes() == content
    assert not (bundle / "engines").exists()


def test_tensorrt_builds_only_for_the_gpu_in_the_machine(orin: Path, bundle: Path) -> None:
    with pytest.raises(BuildError) as caught:
        build_engine(bundle, "h100")
    assert "Orin" in str(caught.value.found)
    assert "machine with that card (H100)" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("abort", "SIGABRT"),
        ("kill", "SIGKILL"),
        ("exit", "exit code 3"),
        ("refuse", "refused the network"),
        ("memory", "ran out of memory"),
    ],
)
def test_a_build_that_dies_is_an_error_with_its_cause(
    orin: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, words: str
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", behaviour)
    before = sorted(p.name for p in bundle.parent.iterdir())
    content = (bundle / "bundle.json").read_bytes()
    with pytest.raises(BuildError) as caught:
        build_engine(bundle, "this")
    assert words in str(caught.value)
    assert "the last words of the builder" in str(caught.value.found)
    assert (bundle / "bundle.json").read_bytes() == content
    assert set(p.name for p in bundle.parent.iterdir()) - set(before) <= {"calls.json"}


def test_an_interrupt_ends_the_child(
    orin: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", "sleep")

    class Interrupt(Exception):
        pass

    def interrupt(event: BuildEvent) -> None:
        if isinstance(event, LogLine) and "about to sleep" in event.text:
            raise Interrupt

    spec = EngineSpec(options=BuilderOptions(verbose=True))
    with pytest.raises(Interrupt):
        build_engine(bundle, "this", spec=spec, on_event=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(calls(orin)["pid"], 0)
    assert not (bundle / "engines").exists()
