"""Calibrating a whole bundle: what is written, read again, verified, parsed and built."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import onnx
import pytest
from helpers.data_sets.blob_episodes import SIZE
from typer.testing import CliRunner

from hsnet_trt.calibration.budget import Attempt
from hsnet_trt.calibration.workbench import Workbench
from hsnet_trt.cli.main import app
from hsnet_trt.data.sources import Source
from hsnet_trt.errors import BundleError, InputError
from hsnet_trt.export.build_engine import build_engine
from hsnet_trt.export.doctor.inspection import inspect_bundle
from hsnet_trt.export.doctor.inspection_tables import inspection_tables
from hsnet_trt.export.engines.process import run_job
from hsnet_trt.export.engines.worker import Job
from hsnet_trt.export.precision.int8 import Calibration, calibrate
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.verify import verify_bundle

FOLDER = "folder"


@pytest.fixture(scope="session")
def calibrated(
    bundle: Bundle, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Calibration:
    out = tmp_path_factory.mktemp("int8") / "bundle"
    bench = Workbench(bundle.path, Source((FOLDER,), root=pictures))
    return calibrate(bench, out, episodes=10, judged=4, command="a test's")


def test_holds_the_graphs_and_what_they_came_of(bundle, calibrated):
    manifest = calibrated.bundle.manifest
    variants = {g.variant for g in manifest.graphs if g.variant.precision == "int8"}
    assert {v.graph for v in variants} == {"features", "support", "match"}
    kept = {g.variant for g in bundle.manifest.graphs}
    assert kept < {g.variant for g in manifest.graphs}
    (figure,) = manifest.accuracy
    assert (figure.precision, figure.episodes, figure.miou) == ("int8", 4, calibrated.cost.miou)
    assert "int8" in manifest.golden[0].tolerance
    assert [p.precision for p in manifest.parity].count("int8") == 1
    assert manifest.commands[-1] == "a test's"
    sizes = {
        g.variant.precision: manifest.files[g.file].bytes
        for g in manifest.graphs
        if g.variant.graph == "features"
    }
    assert sizes["int8"] < 0.3 * sizes["fp32"]


def test_verifies(calibrated):
    (found,) = verify_bundle(calibrated.bundle.path, "onnxruntime", precision="int8")
    assert found.passed
    assert found.figures[-1].relative > 1e-3  # it is not FP32 by another name
    assert found.flipped < 0.1


def test_the_file_gives_the_same_graphs(bundle, calibrated, tmp_path):
    """No episode is needed for it; the method may be another."""
    ranges = calibrated.bundle.path / f"calibration/{SIZE[0]}x{SIZE[1]}_conv2d.json"
    bench = Workbench(bundle.path, None)
    again = calibrate(bench, tmp_path / "again", ranges=ranges, judged=0)
    first, second = calibrated.bundle, again.bundle
    for graph in first.manifest.graphs:
        assert first.read(graph.file) == second.read(graph.file)
    assert again.table == calibrated.table
    assert again.cost is None
    assert second.manifest.accuracy == ()
    other = calibrate(bench, tmp_path / "other", ranges=ranges, judged=0, method="minmax")
    name = next(g.file for g in first.manifest.graphs if g.variant.precision == "int8")
    assert other.bundle.read(name) != first.read(name)


def test_inspection_names_the_layers(calibrated):
    report = inspect_bundle(calibrated.bundle.path)
    by_graph = {
        g["variant"]["graph"]: found
        for g, found in zip(report["manifest"]["graphs"], report["graphs"], strict=True)
        if g["variant"]["precision"] == "int8"
    }
    assert len(by_graph["features"]["int8"]) == 20
    assert by_graph["features"]["float"] == {}
    assert {"correlation2", "decoder.decoder2.0"} <= set(by_graph["match"]["int8"])
    assert set(by_graph["match"]["float"]) == {"decoder.decoder2.2"}
    from rich.console import Console

    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(inspection_tables(report))
    assert "20 layers are INT8: conv1, layer1.0.conv1" in console.export_text()


@pytest.mark.parametrize("graph", ["features", "match"])
def test_tensorrt_for_rtx_parses_it_as_int8(calibrated, graph):
    pytest.importorskip("tensorrt_rtx")
    bundle = calibrated.bundle
    entry = bundle.graph(graph, SIZE, "int8")
    parsed = run_job(
        Job(task="parse", flavour="tensorrt_rtx", source=str(bundle.path / entry.file))
    )
    counts: dict[tuple[str, str], int] = {}
    for layer in parsed["layers"]:
        key = layer["type"], layer["precision"]
        counts[key] = counts.get(key, 0) + layer["count"]
    layers = [x for x in calibrated.chosen.layers if x.graph == graph]
    pairs = {tensor for layer in layers for tensor, _ in layer.pairs}
    convolutions = sum(layer.op == "Conv" for layer in layers)
    assert counts["QUANTIZE", "INT8"] == len(pairs)
    dequantized = sum(n for (kind, _), n in counts.items() if kind == "DEQUANTIZE")
    assert dequantized == len(pairs) + convolutions
    assert counts["CONSTANT", "INT8"] == convolutions
    assert counts["CONVOLUTION", "FLOAT"] == convolutions  # INT8 in, and what follows is fused
    assert counts.get(("CONVOLUTION", "HALF"), 0) == len(left_float(calibrated, graph))
    assert ("CONSTANT", "INT32") not in counts


def left_float(calibrated: Calibration, graph: str) -> list[str]:
    """Names of the convolutions that stay float."""
    name = f"calibration/{SIZE[0]}x{SIZE[1]}_conv2d_layers.json"
    return list(json.loads(calibrated.bundle.read(name))["float"][graph])


def test_the_rest_is_fp16_and_the_scales_are_fp32(calibrated):
    for graph in ("features", "match"):
        entry = calibrated.bundle.graph(graph, SIZE, "int8")
        assert {t.dtype for t in (*entry.inputs, *entry.outputs)} == {"float16"}
        model = onnx.load_model_from_string(calibrated.bundle.read(entry.file))
        kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        scales = {
            node.input[1]
            for node in model.graph.node
            if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        }
        assert {kinds[name] for name in scales} == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize("target", ["rtx-4090", "portable"])
def test_tensorrt_for_rtx_builds_it(calibrated, target, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    built = build_engine(calibrated.bundle.path, target, "int8", tmp_path / "built")
    sizes = {e.variant.graph: built.manifest.files[e.file].bytes for e in built.manifest.engines}
    assert set(sizes) == {"features", "support", "match"}
    fp32 = built.manifest.files[built.graph("features", SIZE).file].bytes
    assert sizes["features"] < 0.45 * fp32


def test_a_budget_nobody_can_keep_writes_nothing(bundle, pictures, tmp_path):
    attempts: list[Attempt] = []
    bench = Workbench(bundle.path, Source((FOLDER,), root=pictures))
    few = {"squeeze2.second.conv1", "layer1.0.conv1"}
    bench.subject.placements = {
        name: dataclasses.replace(p, layers=[x for x in p.layers if x.name in few])
        for name, p in bench.subject.placements.items()
    }
    with pytest.raises(InputError, match="does not stay within -50 points"):
        calibrate(
            bench, tmp_path / "out", episodes=8, judged=2, budget=-50, on_attempt=attempts.append
        )
    assert [attempt.kept for attempt in attempts] == [0, 1]
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="nothing is judged"):
        calibrate(bench, tmp_path / "out", judged=0, budget=1.0)
    with pytest.raises(InputError, match="no source of episodes"):
        calibrate(Workbench(bundle.path, None), tmp_path / "out", judged=0)


def test_kept_layers_are_float_and_said_to_be(bundle, pictures, tmp_path, monkeypatch):
    """The first evaluation is made to look dear; one layer then stays float."""
    bench = Workbench(bundle.path, Source((FOLDER,), root=pictures))
    names = ["layer1.0.conv1", "layer1.0.conv2", "squeeze2.second.conv1", "correlation3"]
    bench.subject.placements = {
        name: dataclasses.replace(p, layers=[x for x in p.layers if x.name in names])
        for name, p in bench.subject.placements.items()
    }
    from hsnet_trt.calibration.judge import Judge

    honest = Judge.cost

    def cost(self, layers):
        found = honest(self, layers)
        loss = 5.0 if len(layers) == len(names) else 0.0
        return dataclasses.replace(found, miou=found.miou_fp32 - loss)

    monkeypatch.setattr(Judge, "cost", cost)
    made = calibrate(bench, tmp_path / "out", episodes=8, judged=2, budget=1.0)
    (kept,) = made.chosen.kept
    name = f"calibration/{SIZE[0]}x{SIZE[1]}_conv2d_layers.json"
    choice = json.loads(made.bundle.read(name))
    left = choice["float"]["features"] | choice["float"]["match"]
    assert left[kept] == "kept for the accuracy budget"
    assert kept not in choice["int8"]["features"] + choice["int8"]["match"]
    assert [step["float_layers"] for step in choice["path"]] == [0, 1]


def test_command(bundle, pictures, tmp_path, calibrated):
    """The verbs, and how a refusal is shown."""
    runner = CliRunner()
    ranges = tmp_path / "ranges.json"
    done = runner.invoke(
        app,
        [
            "calibrate",
            str(bundle.path),
            "--data",
            f"folder:{pictures}",
            "--episodes",
            "8",
            "--judged",
            "0",
            "--save",
            str(ranges),
            "--out",
            str(tmp_path / "out"),
        ],
    )
    assert done.exit_code == 0, done.output
    assert json.loads(ranges.read_text())["data"] == "pictures0 train"
    damaged = json.loads(ranges.read_text()) | {"weights_sha256": "0" * 64}
    ranges.write_text(json.dumps(damaged))
    done = runner.invoke(
        app, ["calibrate", str(bundle.path), "--ranges", str(ranges), "--judged", "0"]
    )
    assert isinstance(done.exception, InputError)
    assert "of another model" in str(done.exception)


def test_a_place_that_will_not_do_is_refused_before_the_work(bundle, pictures, tmp_path):
    (tmp_path / "file").touch()
    bench = Workbench(bundle.path, Source((FOLDER,), root=pictures))
    bench.calibrate = None  # nothing was begun
    with pytest.raises(BundleError, match="cannot be written"):
        calibrate(bench, tmp_path / "file" / "bundle", episodes=10)
