"""With a stand-in for Model Optimizer, which is not installed here: what it is given and asked.

The stand-in quantises by ONNX Runtime; with nvidia-modelopt 0.47 itself the same was tried by hand.
"""

from __future__ import annotations

import importlib.util
import struct
import sys
import types
from pathlib import Path

import onnx
import pytest

from hsnet_trt.calibration.modelopt import check_modelopt, quantize_with_modelopt
from hsnet_trt.calibration.quantize import quantize
from hsnet_trt.calibration.workbench import Workbench
from hsnet_trt.errors import InputError
from hsnet_trt.export.precision.int8 import calibrate


def install(monkeypatch, function) -> None:
    package, part, leaf = (
        types.ModuleType(name)
        for name in ("modelopt", "modelopt.onnx", "modelopt.onnx.quantization")
    )
    package.__path__, part.__path__ = [], []  # type: ignore[attr-defined]
    leaf.quantize = function  # type: ignore[attr-defined]
    for module in (package, part, leaf):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_is_given_layers_and_ranges(subject, table, monkeypatch):
    layers, thresholds = subject.placements["match"].layers, table.thresholds("match")

    def stand_in(path, **given):
        assert given["quantize_mode"] == "int8"
        assert set(given["nodes_to_quantize"]) == {node for x in layers for node in x.nodes}
        header, *lines = Path(given["calibration_cache_path"]).read_text().splitlines()
        assert header.startswith("TRT-")
        scales = {
            name: struct.unpack(">f", bytes.fromhex(value))[0]
            for name, value in (line.split(": ") for line in lines)
        }
        pairs = {tensor: source for x in layers for tensor, source in x.pairs}
        assert scales.keys() == pairs.keys()
        for tensor, source in pairs.items():
            assert scales[tensor] == pytest.approx(thresholds[source] / 127, rel=1e-6)
        Path(given["output_path"]).write_bytes(
            quantize(onnx.load(path), layers, thresholds).SerializeToString()
        )
        Path(path).unlink()  # it does as it likes with its input

    install(monkeypatch, stand_in)
    found = quantize_with_modelopt(subject.graphs["match"], layers, thresholds)
    assert found == quantize(subject.graphs["match"], layers, thresholds)


def test_pairs_elsewhere_are_refused(subject, table, monkeypatch):
    layers, thresholds = subject.placements["match"].layers, table.thresholds("match")

    def stand_in(path, **given):
        few = quantize(onnx.load(path), layers[:3], thresholds)
        Path(given["output_path"]).write_bytes(few.SerializeToString())

    install(monkeypatch, stand_in)
    with pytest.raises(InputError, match="where it was asked"):
        quantize_with_modelopt(subject.graphs["match"], layers, thresholds)


def test_absent(bundle, tmp_path, monkeypatch):
    if importlib.util.find_spec("modelopt") is not None:
        monkeypatch.setitem(sys.modules, "modelopt", None)
    with pytest.raises(InputError, match="Model Optimizer cannot be imported") as caught:
        check_modelopt()
    assert "nvidia-modelopt[onnx]" in str(caught.value)
    bench = Workbench(bundle.path, None)
    with pytest.raises(InputError, match="cannot be imported"):
        calibrate(bench, tmp_path / "out", quantizer="modelopt")
    with pytest.raises(InputError, match="no such quantiser"):
        calibrate(bench, tmp_path / "out", quantizer="guess")
