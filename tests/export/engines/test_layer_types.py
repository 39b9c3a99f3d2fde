"""What was asked for is what was built: parsed networks, and engines where they can be opened."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from helpers.bundles.real_contract import write_small_bundle
from onnx import TensorProto

from hsnet_trt.errors import BuildError
from hsnet_trt.export.build_engine import build_engine
from hsnet_trt.export.engines.events import BuildEvent, LogLine
from hsnet_trt.export.engines.layer_types import (
    engine_problem,
    engine_types,
    quantised,
    wrong_types,
)
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.variants import add_variants


def described(*layers: tuple[str, str, int], dtype: str = "HALF") -> dict[str, Any]:
    return {
        "layers": [{"type": t, "precision": p, "count": n} for t, p, n in layers],
        "inputs": [{"name": "image", "dtype": dtype}],
        "outputs": [{"name": "f2", "dtype": dtype}],
    }


def test_products_and_tensors_must_be_of_the_precision():
    half = described(("CONVOLUTION", "HALF", 20), ("REDUCE", "FLOAT", 9), ("CAST", "FLOAT", 3))
    assert wrong_types(half, "fp16") is None
    assert wrong_types(half, "") is None
    assert "20 convolutions in HALF" in str(wrong_types(half, "fp32"))
    mixed = described(("CONVOLUTION", "HALF", 20), ("MATRIX_MULTIPLY", "FLOAT", 6))
    assert wrong_types(mixed, "fp16") == "6 matrix products in FLOAT"
    assert "image is FLOAT" in str(wrong_types(described(dtype="FLOAT"), "fp16"))
    half["inputs"].append({"name": "n4", "dtype": "INT32"})  # of the correlation plugin
    assert wrong_types(half, "fp16") is None
    assert quantised(described(("QUANTIZE", "INT8", 4), ("QUANTIZE", "INT8", 3))) == 7
    assert quantised(mixed) == 0


def test_types_of_an_engine():
    def layer(kind: str, read: str) -> dict[str, Any]:
        return {"LayerType": kind, "Inputs": [{"Format/Datatype": read}]}

    information = {
        "Layers": [
            layer("CaskConvolution", "Channel major FP16 format where channel % 8 == 0"),
            layer("CaskGemmConvolution", "Row major linear FP32 format"),
            layer("gemm", "Half"),
            layer("CaskConvolution", "Four wide channel vectorized row major Int8 format"),
            layer("Reformat", "Row major linear FP32 format"),
            {"LayerType": "conv", "Inputs": []},
            "a line of text",
        ]
    }
    assert engine_types(information) == {"FP16": 2, "FP32": 1, "INT8": 1}
    assert engine_types(None) == engine_types({"Layers": ["{ForeignNode[a...b]}"]}) == {}
    assert engine_problem({"FP16": 20, "FP32": 1}, "fp16") is None
    assert engine_problem({}, "fp16") is None  # nothing is told, nothing is known
    assert "21 read FP32" in str(engine_problem({"FP32": 21}, "fp16"))
    assert "FP16" in str(engine_problem({"FP16": 21}, "int8"))


def test_a_graph_that_only_claims_fp16_is_refused(tmp_path: Path) -> None:
    """Really parsed, by TensorRT for RTX: an FP32 graph under the name of an FP16 one."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not made for this platform")
    source = write_small_bundle(tmp_path / "b")
    graphs = []
    for name in ("features", "support", "match"):
        claims = source.graph(name, (64, 64), "fp16")
        truth = source.graph(name, (64, 64), "fp32")
        graphs.append((claims, {claims.file: source.read(truth.file)}))
    lying = add_variants(source, tmp_path / "lying", graphs)
    with pytest.raises(BuildError, match="exported as fp16") as caught:
        build_engine(lying.path, "rtx-4090", "fp16", tmp_path / "out")
    assert "1 convolutions in FLOAT" in str(caught.value)
    assert not (tmp_path / "out").exists()
    half = onnx.load_from_string(source.read(source.graph("match", (64, 64), "fp16").file))
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    record = build_engine(source.path, "rtx-4090", "fp16", tmp_path / "out")
    for engine in record.manifest.engines:
        assert wrong_types(json.loads(record.read(engine.record)), "fp16") is None


def test_int8_that_quantises_nothing_is_refused(orin: Path, tmp_path: Path) -> None:
    source = write_small_bundle(tmp_path / "b", ("fp32",))
    graphs = []
    for entry in source.manifest.graphs:
        variant = dataclasses.replace(entry.variant, precision="int8")
        new = dataclasses.replace(entry, variant=variant, file=f"{entry.file}.int8")
        graphs.append((new, {new.file: source.read(entry.file)}))
    bundle = add_variants(source, tmp_path / "b", graphs)
    with pytest.raises(BuildError, match="quantise nothing") as caught:
        build_engine(bundle.path, "this", "int8")
    assert "calibrate" in str(caught.value.fix)
    assert Bundle.open(bundle.path).manifest.engines == ()


def test_layers_of_an_engine_are_looked_at_where_there_is_its_gpu(
    orin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_small_bundle(tmp_path / "b")
    monkeypatch.setenv("FAKE_TENSORRT_ENGINE", "FP16 FP16 FP32")
    built = build_engine(source.path, "this", "fp16", tmp_path / "right")
    engine = built.manifest.engines[0]
    assert json.loads(built.read(engine.record))["types"] == {"FP16": 2, "FP32": 1}
    monkeypatch.setenv("FAKE_TENSORRT_ENGINE", "FP32 FP32")
    with pytest.raises(BuildError, match="another precision than requested") as caught:
        build_engine(source.path, "this", "fp16", tmp_path / "wrong")
    assert "2 read FP32" in str(caught.value.found)
    assert not (tmp_path / "wrong").exists()
    monkeypatch.setenv("FAKE_TENSORRT_ENGINE", "none")  # it cannot be opened: said, and kept
    events: list[BuildEvent] = []
    build_engine(source.path, "this", "fp16", tmp_path / "kept", on_event=events.append)
    lines = [event.text for event in events if isinstance(event, LogLine)]
    assert sum("were not checked" in line for line in lines) == 3


def test_a_parser_that_makes_fp32_of_fp16(
    orin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_small_bundle(tmp_path / "b")
    monkeypatch.setenv("FAKE_TENSORRT_LAYERS", "FLOAT")
    with pytest.raises(BuildError, match="1 convolutions in FLOAT"):
        build_engine(source.path, "this", "fp16", tmp_path / "out")
    assert not (tmp_path / "out").exists()
