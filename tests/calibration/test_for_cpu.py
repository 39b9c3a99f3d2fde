"""INT8 for ONNX Runtime on a CPU: another form, of the packed lowering."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
from helpers.data_sets.blob_episodes import SIZE

from hsnet_trt.calibration.workbench import Workbench
from hsnet_trt.data.sources import Source
from hsnet_trt.errors import BundleError, InputError
from hsnet_trt.export.build_engine import build_engine
from hsnet_trt.export.precision import int8
from hsnet_trt.export.precision.int8 import Calibration, calibrate
from hsnet_trt.runtime.backends import choose_graphs
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.device.machine import multiplies_int8_exactly
from hsnet_trt.runtime.verify import verify_bundle


@pytest.fixture(scope="session")
def for_cpu(bundle: Bundle, pictures: Path, tmp_path_factory) -> Calibration:
    bench = Workbench(bundle.path, Source(("folder",), root=pictures), lowering="packed")
    return calibrate(bench, tmp_path_factory.mktemp("cpu") / "bundle", episodes=8, judged=2)


def test_verifies_and_was_judged(for_cpu):
    (found,) = verify_bundle(for_cpu.bundle.path, "onnxruntime", precision="int8")
    assert found.passed
    assert found.figures[-1].relative > 1e-3
    (figure,) = for_cpu.bundle.manifest.accuracy
    assert (figure.arithmetic, figure.lowering, figure.episodes) == ("onnxruntime", "packed", 2)


@pytest.mark.parametrize("graph", ["features", "match"])
def test_layers_run_on_integers(for_cpu, graph, tmp_path):
    """What ONNX Runtime makes of the graph, not what is written in it."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    content = for_cpu.bundle.read(
        choose_graphs(for_cpu.bundle, SIZE, "int8", packed=True)[graph].file
    )
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    chosen = [layer for layer in for_cpu.chosen.layers if layer.graph == graph]
    without_result = sum(not layer.results for layer in chosen)  # one before a Resize
    products = [layer for layer in chosen if layer.op == "MatMul"]
    assert len(products) == (3 if graph == "match" else 0)
    assert kinds.count("QLinearMatMul") == len(products)
    assert kinds.count("QLinearConv") >= len(chosen) - len(products) - without_result
    assert without_result <= 1


def test_never_negative_activations_begin_at_zero(for_cpu):
    entry = choose_graphs(for_cpu.bundle, SIZE, "int8", packed=True)["features"]
    model = onnx.load_model_from_string(for_cpu.bundle.read(entry.file))
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    ranges = for_cpu.table.ranges["features"]
    seen = 0
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in ranges:
            zero, found = values[node.input[2]], ranges[node.input[0]]
            assert zero.dtype == "uint8"
            assert int(zero) == (0 if found.low >= 0 else 128)
            step = found.thresholds["percentile"] / (255 if found.low >= 0 else 127.5)
            assert float(values[node.input[1]]) == pytest.approx(step, rel=1e-5)
            seen += 1
    assert seen > 20


def test_is_not_what_engines_are_built_of(for_cpu, pictures, tmp_path):
    with pytest.raises(BundleError, match="does not hold the graph"):
        build_engine(for_cpu.bundle.path, "rtx-4090", "int8", tmp_path / "built")
    with pytest.raises(BundleError):
        choose_graphs(for_cpu.bundle, SIZE, "int8")
    bench = Workbench(for_cpu.bundle.path, Source(("folder",), root=pictures))
    both = calibrate(bench, tmp_path / "both", episodes=8, judged=0, rest="fp32").bundle
    of_engines = both.graph("features", SIZE, "int8", lowering="")
    of_cpus = choose_graphs(both, SIZE, "int8", packed=True)
    assert of_cpus["features"].variant.lowering == "packed"
    assert of_cpus["match"].packing
    assert of_engines.file != of_cpus["features"].file
    assert choose_graphs(both, SIZE, "int8")["features"] == of_engines
    assert [a.lowering for a in both.manifest.accuracy] == ["packed"]  # this one judged nothing
    parity = [p.lowering for p in both.manifest.parity if p.precision == "int8"]
    assert parity == ["packed", "conv2d"]


def test_what_the_processor_says():
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if " avx2 " in flags:
        assert multiplies_int8_exactly() == ("vnni" in flags)


@pytest.mark.parametrize("wrong", [{"quantizer": "modelopt"}, {"rest": "bf16"}], ids=str)
def test_what_a_cpu_has_no_use_for_is_refused(bundle, pictures, tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(int8, "check_modelopt", lambda: None)
    bench = Workbench(bundle.path, Source(("folder",), root=pictures), lowering="packed")
    with pytest.raises(InputError):
        calibrate(bench, tmp_path / "bundle", episodes=8, judged=0, **wrong)
