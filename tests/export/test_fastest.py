"""`--lowering auto` on a GPU that is not there: what is built, timed and kept, and the refusals."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from helpers.bundles.real_contract import ORIN, write_small_bundle
from helpers.bundles.tiny_graphs import SIZE as TINY
from helpers.bundles.tiny_graphs import make_graph
from helpers.bundles.with_engines import VERSION, engine_bundle, engines
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt
from typer.testing import CliRunner

from hsnet_trt.cli.main import app
from hsnet_trt.errors import BackendError, BuildError, BundleError
from hsnet_trt.export.best import build_best
from hsnet_trt.export.build_engine import build_engine
from hsnet_trt.export.engines.events import BuildEvent, LogLine
from hsnet_trt.export.engines.options import EngineSpec
from hsnet_trt.export.fastest import build_fastest, frame_ms
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.manifest import EngineFile
from hsnet_trt.runtime.bundle.variants import add_variants
from hsnet_trt.runtime.device.machine import Driver


@pytest.fixture
def gpu(orin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("fastest", "best"):
        monkeypatch.setattr(f"hsnet_trt.export.{module}.find_driver", lambda: ORIN)
    monkeypatch.setattr("hsnet_trt.export.fastest.has", lambda package: package == "pycuda")


def in_both_forms(folder: Path) -> Bundle:
    """The small bundle with each `match` as conv2d and conv3d."""
    source = write_small_bundle(folder)
    graphs = []
    for entry in source.manifest.graphs:
        if entry.variant.graph == "match":
            variant = dataclasses.replace(entry.variant, lowering="conv3d")
            new = dataclasses.replace(entry, variant=variant, file=f"{entry.file}.conv3d")
            graphs.append((new, {new.file: source.read(entry.file)}))
    return add_variants(source, folder, graphs)


def clock(**times: float | str) -> Callable[[Bundle, Mapping[str, EngineFile]], float]:
    """Milliseconds by lowering; a text is why it cannot run."""

    def measure(bundle: Bundle, three: Mapping[str, EngineFile]) -> float:
        assert set(three) == {"features", "support", "match"}
        assert {e.flavour for e in three.values()} == {"tensorrt"}
        bundle.check()
        time = times[three["match"].variant.lowering]
        if isinstance(time, str):
            raise BackendError(time)
        return time

    return measure


def lowerings(bundle: Bundle) -> list[str]:
    return [e.variant.lowering for e in bundle.manifest.engines if e.variant.graph == "match"]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("fastest", ["conv2d", "conv3d"])
def test_the_fastest_is_kept_and_said(tmp_path: Path, fastest: str) -> None:
    source = in_both_forms(tmp_path / "b")
    times = {"conv2d": 4.0, "conv3d": 4.0} | {fastest: 3.0}
    seen: list[BuildEvent] = []
    built = build_fastest(
        source.path,
        "this",
        "fp16",
        tmp_path / "out",
        on_event=seen.append,
        command="hsnet-trt a test's",
        measure=clock(**times),
    )
    assert [e.variant.graph for e in built.manifest.engines] == ["features", "support", "match"]
    assert lowerings(built) == [fastest]
    said = [event.text for event in seen if isinstance(event, LogLine)]
    (line,) = (text for text in said if "fastest" in text)
    assert line == (
        f"64x64: lowering {fastest}, the fastest here "
        f"(conv2d {times['conv2d']:.2f} ms, conv3d {times['conv3d']:.2f} ms a frame)"
    )
    record = json.loads(built.read("engines/lowering.fp16.sm87.tensorrt.json"))
    assert [(r["lowering"], r["milliseconds"]) for r in record] == list(times.items())
    engine_files = {p.name for p in (built.path / "engines").glob("*.engine")}
    assert len(engine_files) == 3 and built.manifest.commands[-1] == "hsnet-trt a test's"
    assert Bundle.open(source.path).manifest.engines == ()
    built.check()


@pytest.mark.usefixtures("gpu")
def test_engines_of_others_stay_and_of_the_same_go(tmp_path: Path) -> None:
    """FP32 stays beside FP16; an older FP16 engine of the slower form does not."""
    source = in_both_forms(tmp_path / "b")
    build_engine(source.path, "this", "fp32", spec=EngineSpec(lowering="conv2d"))
    build_engine(source.path, "this", "fp16", spec=EngineSpec(lowering="conv2d"))
    built = build_fastest(source.path, "this", "fp16", measure=clock(conv2d=4.0, conv3d=3.0))
    kept = [
        (e.variant.precision, e.variant.lowering)
        for e in built.manifest.engines
        if e.variant.graph == "match"
    ]
    assert kept == [("fp32", "conv2d"), ("fp16", "conv3d")]
    again = build_engine(source.path, "this", "fp16", spec=EngineSpec(lowering="conv2d"))
    assert not any(name.startswith("engines/lowering") for name in again.manifest.files)


@pytest.mark.usefixtures("gpu")
def test_a_form_that_does_not_run_is_left_out(tmp_path: Path) -> None:
    source = in_both_forms(tmp_path / "b")
    seen: list[BuildEvent] = []
    built = build_fastest(
        source.path,
        "this",
        out=tmp_path / "out",
        on_event=seen.append,
        measure=clock(conv2d=9.0, conv3d="no memory"),
    )
    words = "the fastest here (conv2d 9.00 ms a frame; conv3d left out: no memory)"
    assert any(isinstance(event, LogLine) and event.text.endswith(words) for event in seen)
    assert lowerings(built) == ["conv2d"]
    record = json.loads(built.read("engines/lowering.fp32.sm87.tensorrt.json"))
    assert record[1]["left_out"] == "no memory"
    with pytest.raises(BuildError, match="no lowering of the bundle can be run here") as caught:
        build_fastest(source.path, "this", measure=clock(conv2d="refused", conv3d="no memory"))
    assert "conv2d: refused; conv3d: no memory" in str(caught.value.found)
    assert Bundle.open(source.path).manifest.engines == ()


@pytest.mark.usefixtures("orin")
def test_one_form_is_built_untimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hsnet_trt.export.fastest.find_driver", lambda: ORIN)
    monkeypatch.setattr("hsnet_trt.export.fastest.has", lambda package: False)
    source = write_small_bundle(tmp_path / "b")
    seen: list[BuildEvent] = []
    built = build_fastest(source.path, "this", on_event=seen.append)
    assert lowerings(built) == ["conv2d"]
    assert LogLine("lowering conv2d: the bundle holds no other for engines") in seen


@pytest.mark.usefixtures("gpu")
def test_the_best_precision_of_the_fastest_lowering(tmp_path: Path) -> None:
    source = in_both_forms(tmp_path / "b")
    spec, lines = EngineSpec(lowering="auto"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hsnet_trt.export.fastest.frame_ms", clock(conv2d=4.0, conv3d=3.0))
        patch.setattr("hsnet_trt.export.fastest.golden_of", lambda bundle, size: None)
        built, _ = build_best(
            source.path,
            "this",
            spec=spec,
            on_event=lines.append,
            measure=lambda bundle, flavour, precision, sizes: {"fp32": 9.0, "fp16": 5.0}[precision],
        )
    assert [(e.variant.precision, e.variant.lowering) for e in built.manifest.engines][-1] == (
        "fp16",
        "conv3d",
    )
    assert len(built.manifest.engines) == 3
    assert {"engines/best.sm87.tensorrt.json", "engines/lowering.fp16.sm87.tensorrt.json"} <= set(
        built.manifest.files
    )


@pytest.mark.parametrize("target", ["rtx-4090", "portable", "h100"])
def test_where_it_cannot_be_timed_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """TensorRT for RTX could build for these with no GPU here, but not time what it built."""
    bundle = in_both_forms(tmp_path / "b")
    none = Driver(None, (), problem="no NVIDIA driver is loaded")
    monkeypatch.setattr("hsnet_trt.export.fastest.find_driver", lambda: none)
    with pytest.raises(BuildError, match="the fastest lowering is measured on the GPU") as caught:
        build_fastest(bundle.path, target, out=tmp_path / "out")
    assert "no NVIDIA driver" in str(caught.value.found)
    assert "name one: --lowering conv2d or conv3d" in str(caught.value.fix)
    assert not (tmp_path / "out").exists()


def test_nor_for_another_gpu_nor_without_a_cuda_library(
    gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = in_both_forms(tmp_path / "b")
    with pytest.raises(BuildError, match="on the GPU that it is for") as caught:
        build_fastest(bundle.path, "rtx-3090")
    assert caught.value.found == "compute capability 8.7"
    monkeypatch.setattr("hsnet_trt.export.fastest.has", lambda package: False)
    with pytest.raises(BuildError, match="no library for that is installed") as caught:
        build_fastest(bundle.path, "this")
    assert "pip install cuda-bindings" in str(caught.value.fix)


@pytest.mark.usefixtures("gpu")
def test_without_golden_outputs_nothing_is_built(tmp_path: Path) -> None:
    bundle = in_both_forms(tmp_path / "b")
    with pytest.raises(BundleError, match="no golden outputs"):
        build_fastest(bundle.path, "this")


def test_the_command_takes_it(gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = in_both_forms(tmp_path / "b")
    monkeypatch.setattr("hsnet_trt.export.fastest.frame_ms", clock(conv2d=4.0, conv3d=3.0))
    monkeypatch.setattr("hsnet_trt.export.fastest.golden_of", lambda bundle, size: None)
    done = CliRunner().invoke(
        app, ["build-engine", str(source.path), "--target", "this", "--lowering", "auto"]
    )
    assert done.exit_code == 0, done.output
    assert "lowering conv3d, the fastest here" in " ".join(done.output.split())
    assert lowerings(Bundle.open(source.path)) == ["conv3d"]


@pytest.mark.usefixtures("packaged_kernels")
def test_engines_are_run_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the fakes of CUDA and TensorRT: a time for right engines, a refusal for wrong ones."""
    driver = FakeDriver()
    install(monkeypatch, driver, fake_tensorrt(driver, VERSION, (1, 1, 4)), pycuda=True)
    monkeypatch.setattr("hsnet_trt.runtime.network._SECONDS", 0.05)
    made = engines(4)
    assert frame_ms(engine_bundle(tmp_path / "right", made), made) > 0
    features = pooled_otherwise(make_graph("features", TINY)[0])
    wrong = engine_bundle(tmp_path / "wrong", made, features=features)
    with pytest.raises(BackendError, match="does not give what PyTorch gave"):
        frame_ms(wrong, made)
    assert driver.settled()


def pooled_otherwise(content: bytes) -> bytes:
    """The same graph, with the largest of a window in place of its mean."""
    import onnx

    model = onnx.load_model_from_string(content)
    (pool, *_) = [node for node in model.graph.node if node.op_type == "AveragePool"]
    pool.op_type = "MaxPool"
    return model.SerializeToString()


@pytest.mark.usefixtures("gpu")
def test_a_precision_none_of_whose_lowerings_runs_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = in_both_forms(tmp_path / "b")

    def wrong_in_fp16(bundle: Bundle, three: Mapping[str, EngineFile]) -> float:
        if three["match"].variant.precision == "fp16":
            raise BackendError("it does not give what PyTorch gave")
        return 5.0

    monkeypatch.setattr("hsnet_trt.export.fastest.frame_ms", wrong_in_fp16)
    monkeypatch.setattr("hsnet_trt.export.fastest.golden_of", lambda bundle, size: None)
    spec = EngineSpec(lowering="auto")
    built, tried = build_best(source.path, "this", spec=spec, measure=lambda *_: 5.0)
    assert {e.variant.precision for e in built.manifest.engines} == {"fp32"}
    assert "conv3d: it does not give what PyTorch gave" in str(tried[1].left_out)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("build", [build_fastest, build_best])
def test_a_place_that_will_not_do_is_refused_before_the_build(
    tmp_path: Path, build: Callable[..., object]
) -> None:
    source = in_both_forms(tmp_path / "b")
    (tmp_path / "file").touch()
    seen: list[BuildEvent] = []
    with pytest.raises(BundleError, match="cannot be written"):
        build(
            source.path,
            "this",
            out=tmp_path / "file" / "bundle",
            on_event=seen.append,
            measure=clock(),
        )
    assert seen == []
