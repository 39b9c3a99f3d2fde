"""What `inspect` tells of a bundle, with and without the libraries that see into it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import onnx
import pytest
from helpers.bundles.real_contract import write_small_bundle
from rich.console import Console

from hsnet_trt.errors import BundleError
from hsnet_trt.export.build_engine import build_engine
from hsnet_trt.export.doctor import inspection
from hsnet_trt.export.doctor.inspection import inspect_bundle
from hsnet_trt.export.doctor.inspection_tables import inspection_tables
from hsnet_trt.export.engines.worker import Job
from hsnet_trt.runtime.bundle import Bundle, write_bundle
from hsnet_trt.runtime.bundle.manifest import EngineFile
from hsnet_trt.runtime.device.machine import Driver, Gpu
from hsnet_trt.runtime.engines.compatibility import PORTABLE_COVERS

RTX = pytest.mark.skipif(
    not inspection.installed("tensorrt_rtx"),
    reason="TensorRT for RTX is not made for this platform",
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Three graphs and, where TensorRT for RTX is, three engines."""
    written = write_small_bundle(tmp_path_factory.mktemp("inspect") / "bundle", ("fp32",))
    if inspection.installed("tensorrt_rtx"):
        return build_engine(written.path, "portable")
    return written


@RTX
def test_layers_and_engines_are_told(bundle: Bundle) -> None:
    report = json.loads(json.dumps(inspect_bundle(bundle.path)))
    for graph in report["graphs"]:
        assert graph["network"]["by"].startswith("TensorRT for RTX")
        assert graph["bytes"] == (bundle.path / graph["file"]).stat().st_size
    match = report["graphs"][2]["network"]["layers"]
    assert {"type": "MATRIX_MULTIPLY", "precision": "FLOAT", "count": 3} in match
    for engine in report["engines"]:
        assert engine["record"]["layers"]
        assert "GPU" in engine["examined_missing"] or "examined" in engine
    text = rendered(report)
    for told in (
        "MATRIX_MULTIPLY",
        "portable",
        PORTABLE_COVERS,
        "B 1:1:4",
        bundle.path.name,
        "bundle.json"[:6],
    ):
        assert told in text
    for record in bundle.manifest.files.values():
        assert record.sha256[:16] in text


def rendered(report: inspection.Report) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(inspection_tables(report))
    return console.export_text()


def test_without_tensorrt_onnx_counts_operators(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "installed", lambda flavour: False)
    report = inspect_bundle(bundle.path)
    for graph in report["graphs"]:
        model = onnx.load_model_from_string(bundle.read(graph["file"]))
        expected = Counter(node.op_type for node in model.graph.node)
        assert {n["type"]: n["count"] for n in graph["network"]["layers"]} == dict(expected)
    for engine in report["engines"]:
        assert "not installed" in engine["examined_missing"]


def test_without_anything_it_says_so(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "installed", lambda flavour: False)
    monkeypatch.setattr(inspection.importlib.util, "find_spec", lambda name: None)
    report = inspect_bundle(bundle.path)
    for graph in report["graphs"]:
        assert "neither TensorRT" in graph["network_missing"]
    assert "not shown" in rendered(report)


@RTX
def test_an_engine_that_cannot_be_opened_is_told(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a GPU told of that is not there, opening the engine fails in the child alone."""
    driver = Driver("13.0", (Gpu(0, "a card", "8.9", 2**34, False),))
    if inspection.find_driver().gpus:
        pytest.skip("there is a GPU here: the engine can be opened")
    monkeypatch.setattr(inspection, "find_driver", lambda: driver)
    for engine in inspect_bundle(bundle.path)["engines"]:
        assert "tensorrt_rtx" in engine["examined_missing"]


@pytest.mark.parametrize("which", ["graph", pytest.param("engine", marks=RTX)])
def test_damage_is_found_before_anything_is_parsed(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    copy = shutil.copytree(bundle.path, tmp_path / "bundle")
    entries = bundle.manifest.graphs if which == "graph" else bundle.manifest.engines
    path = copy / entries[0].file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(inspection, "run_job", lambda *a: pytest.fail("a damaged graph was parsed"))
    with pytest.raises(BundleError, match="altered"):
        inspect_bundle(copy)


def test_the_verb_prints_tables_and_json(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    from hsnet_trt.cli.inspect_bundle import inspect

    inspect(bundle.path)
    assert "Graphs" in capsys.readouterr().out
    inspect(bundle.path, json_output=True)
    assert json.loads(capsys.readouterr().out)["manifest"]["format_version"] == 2


def test_an_engine_is_examined_with_its_plugin(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT cannot deserialise it without."""
    match = bundle.manifest.graphs[2].variant
    with write_bundle(tmp_path / "bundle") as writer:
        writer.copy(bundle, set())
        engine = EngineFile(
            variant=match,
            file=writer.add("engines/match.engine", b"engine"),
            target="sm89",
            flavour="tensorrt_rtx",
            version="1.7",
            compute_capabilities=("8.9",),
            platform="linux-x86_64",
            profile={},
            build_seconds=1.0,
            plugin=writer.add("plugins/correlation.fatbin", b"kernels"),
        )
        writer.finish(dataclasses.replace(bundle.manifest, engines=(engine,)))
    driver = Driver("13.0", (Gpu(0, "a card", "8.9", 2**34, False),))
    monkeypatch.setattr(inspection, "find_driver", lambda: driver)
    monkeypatch.setattr(inspection, "installed", lambda flavour: True)
    seen: list[tuple[str, bytes]] = []

    def run(job: Job) -> dict[str, object]:
        if job.task == "examine":
            seen.append((Path(job.plugin).name, Path(job.plugin).read_bytes()))
        return {"version": "1.7", "layers": []}

    monkeypatch.setattr(inspection, "run_job", run)
    inspect_bundle(tmp_path / "bundle")
    assert seen == [("correlation.fatbin", b"kernels")]
