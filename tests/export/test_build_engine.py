"""Engines are really built, with TensorRT for RTX, from small graphs of the real contract."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
from helpers.bundles.real_contract import write_small_bundle
from helpers.places import ROOT

from hsnet_trt.errors import BuildError, BundleError, HSNetError
from hsnet_trt.export.build_engine import build_engine
from hsnet_trt.export.engines.events import (
    BuildEvent,
    EngineBuilt,
    EngineStarted,
    LogLine,
    PhaseEnded,
    PhaseStarted,
)
from hsnet_trt.export.engines.options import BuilderOptions, EngineSpec
from hsnet_trt.runtime.bundle import Bundle, write_bundle
from hsnet_trt.runtime.bundle.manifest import Growth, ProfileRange

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not made for this platform")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("graphs") / "bundle").path


@pytest.fixture(scope="module")
def built(graphs: Path) -> Bundle:
    spec = EngineSpec(queries=ProfileRange(1, 2, 4))
    return build_engine(
        graphs, "rtx-4090", "fp32", graphs.parent / "built", spec, command="hsnet-trt a test's"
    )


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with its hash: what "nothing was written" is judged by."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_three_engines_join_the_bundle(graphs: Path, built: Bundle) -> None:
    before, after = Bundle.open(graphs).manifest, built.manifest
    assert before.engines == ()
    assert [e.variant.graph for e in after.engines] == ["features", "support", "match"]
    assert after.graphs == before.graphs
    assert all(built.read(name) == (graphs / name).read_bytes() for name in before.files)
    profiles = {e.variant.graph: e.profile for e in after.engines}
    assert profiles == {
        "features": {"N": ProfileRange(1, 2, 4)},
        "support": {"S": ProfileRange(1, 2, 4)},
        "match": {"B": ProfileRange(1, 2, 4), "S": ProfileRange(1, 1, 5)},
    }
    built.check()
    for engine in after.engines:
        assert engine.compute_capabilities == ("8.9",)
        assert engine.flavour == "tensorrt_rtx"
        assert len(built.read(engine.file)) > 50_000
        assert engine.activation_bytes is not None
    assert after.commands == (*before.commands, "hsnet-trt a test's")


def test_the_parsed_network_is_recorded(built: Bundle) -> None:
    """Judged against the ONNX graph: heavy operators become one layer each."""
    import json

    kinds = {"Conv": "CONVOLUTION", "MatMul": "MATRIX_MULTIPLY", "ReduceMean": "REDUCE"}
    for engine in built.manifest.engines:
        graph = built.graph(engine.variant.graph, engine.variant.size)
        model = onnx.load_model_from_string(built.read(graph.file))
        expected = Counter(kinds[n.op_type] for n in model.graph.node if n.op_type in kinds)
        record = json.loads(built.read(engine.record))
        found = {
            layer["type"]: layer["count"] for layer in record["layers"] if layer["type"] in expected
        }
        assert found == dict(expected)
        assert {t["name"] for t in record["inputs"]} == {i.name for i in model.graph.input}


def test_engines_of_another_target_are_added_and_of_the_same_replaced(
    built: Bundle, tmp_path: Path
) -> None:
    both = build_engine(built.path, "portable", "fp16", tmp_path / "b")
    assert [e.target for e in both.manifest.engines] == ["rtx-4090"] * 3 + ["portable"] * 3
    assert both.manifest.engines[3].compute_capabilities == ("portable",)
    two = EngineSpec(queries=ProfileRange(1, 1, 2))
    again = build_engine(both.path, "portable", "fp16", spec=two, command="the last")  # in place
    assert [e.target for e in again.manifest.engines] == ["rtx-4090"] * 3 + ["portable"] * 3
    assert again.manifest.engines[-1].profile["B"].most == 2
    assert again.manifest.commands == (*built.manifest.commands, "the last")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]


def test_neither_torch_nor_onnx_is_needed(graphs: Path, tmp_path: Path) -> None:
    """In this process and in its children, importing either fails."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfor name in ('torch', 'onnx', 'onnxruntime'): sys.modules[name] = None\n"
    )
    code = (
        "from hsnet_trt.export.build_engine import build_engine\n"
        f"build_engine({str(graphs)!r}, 'rtx-3090', 'fp16', {str(tmp_path / 'out')!r})\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
    )
    assert len(Bundle.open(tmp_path / "out").manifest.engines) == 3


def test_progress_is_told(graphs: Path, tmp_path: Path) -> None:
    events: list[BuildEvent] = []
    build_engine(graphs, "sm86", "fp32", tmp_path / "out", on_event=events.append)
    kinds = Counter(type(event) for event in events)
    assert kinds[EngineStarted] == kinds[EngineBuilt] == 3
    assert kinds[PhaseStarted] >= 3
    assert kinds[PhaseStarted] == kinds[PhaseEnded]
    assert kinds[LogLine] == 0


def test_turing_has_no_fp32_product(graphs: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        build_engine(graphs, "rtx-2080ti", "fp32", tmp_path / "out")
    assert "--precision fp16" in str(caught.value.fix)
    assert list(tmp_path.iterdir()) == []
    assert build_engine(graphs, "rtx-2080ti", "fp16", tmp_path / "out").manifest.engines


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("agx-orin-64gb", ["copy the bundle to the Jetson", "--target agx-orin-64gb"]),
        ("agx-thor", ["copy the bundle to the Jetson"]),
        ("h100", ["machine with that card (H100)", "pip install tensorrt"]),
    ],
)
def test_a_target_that_cannot_be_built_here_says_what_would(
    graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, words: list[str]
) -> None:
    monkeypatch.setattr(
        "hsnet_trt.export.engines.flavours.installed", lambda name: name != "tensorrt"
    )
    with pytest.raises(BuildError) as caught:
        build_engine(graphs, target, "fp32", tmp_path / "out")
    assert all(word in str(caught.value) for word in words)
    with pytest.raises(BuildError, match="does not support"):
        build_engine(
            graphs, target, "fp32", tmp_path / "out", spec=EngineSpec(flavour="tensorrt_rtx")
        )
    assert list(tmp_path.iterdir()) == []


def builder(**options: Any) -> dict[str, object]:
    return {"spec": EngineSpec(options=BuilderOptions(**options))}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"target": "rtx-409"}, "rtx-4090"),
        ({"precision": "fp8"}, "fp32, fp16, int8"),
        ({"precision": "int8"}, "does not hold the graph"),
        ({"spec": EngineSpec(sizes=((96, 96),))}, "does not hold the graph"),
        ({"spec": EngineSpec(lowering="conv3d")}, "does not hold the graph"),
        ({"spec": EngineSpec(queries=ProfileRange(4, 1, 1))}, "min <= opt <= max"),
        ({"spec": EngineSpec(supports=ProfileRange(0, 1, 1))}, "min <= opt <= max"),
        ({"spec": EngineSpec(flavour="openvino")}, "flavour"),
        ({"spec": EngineSpec(options=BuilderOptions(level=6))}, "0 to 5"),
        ({"spec": EngineSpec(options=BuilderOptions(workspace=0))}, "above zero"),
        (
            {"spec": EngineSpec(options=BuilderOptions(timing_cache=Path("c")))},
            "has no --timing-cache",
        ),
        (
            {"spec": EngineSpec(options=BuilderOptions(version_compatible=True))},
            "has no --version-compatible",
        ),
        (
            {"spec": EngineSpec(options=BuilderOptions(hardware_compatible="ampere-plus"))},
            "--target portable",
        ),
        ({"spec": EngineSpec(options=BuilderOptions(hardware_compatible="all"))}, "ampere-plus"),
        ({"spec": EngineSpec(supports=ProfileRange(1, 1, 2**21))}, "2^31"),
    ],
)
def test_bad_arguments_write_nothing(
    graphs: Path, tmp_path: Path, arguments: dict[str, object], words: str
) -> None:
    before = tree(graphs.parent)
    call = {"target": "rtx-4090", "precision": "fp32", "out": tmp_path / "out", **arguments}
    with pytest.raises(HSNetError) as caught:
        build_engine(graphs, **call)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert tree(graphs.parent) == before


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle"):
        build_engine(tmp_path / "nothing", "rtx-4090")
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "cat.jpg").write_bytes(b"cat")
    bundle = write_small_bundle(tmp_path / "bundle", ("fp32",))
    with pytest.raises(BundleError, match="in the way"):
        build_engine(bundle.path, "rtx-4090", "fp32", tmp_path / "photographs")
    assert (tmp_path / "photographs" / "cat.jpg").read_bytes() == b"cat"


def test_an_altered_graph_is_refused(tmp_path: Path) -> None:
    bundle = write_small_bundle(tmp_path / "bundle", ("fp32",))
    path = bundle.path / bundle.graph("match", (64, 64)).file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    before = tree(tmp_path)
    with pytest.raises(BundleError, match="altered"):
        build_engine(bundle.path, "rtx-4090")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("damage", ["not onnx", "other inputs"])
def test_a_graph_that_tensorrt_refuses(tmp_path: Path, damage: str) -> None:
    """Its hash is right, but what it holds is not: the last engine fails, the bundle stays."""
    good = write_small_bundle(tmp_path / "good", ("fp32",))
    match, features = good.graph("match", (64, 64)), good.graph("features", (64, 64))
    content = b"no graph at all" if damage == "not onnx" else good.read(features.file)
    with write_bundle(tmp_path / "bundle") as writer:
        for name in good.manifest.files:
            writer.add(name, content if name == match.file else good.read(name))
        writer.finish(good.manifest)
    before = tree(tmp_path)
    with pytest.raises(BuildError) as caught:
        build_engine(tmp_path / "bundle", "rtx-4090")
    expected = "parser refused" if damage == "not onnx" else "inputs are ['image']"
    assert expected in str(caught.value)
    assert tree(tmp_path) == before


def test_memory_of_the_target_limits_the_profile(tmp_path: Path) -> None:
    """Of 10 GiB a pair, an RTX 4090 (24 GiB) holds two: the message names that profile."""
    good = write_small_bundle(tmp_path / "good", ("fp32",))
    with write_bundle(tmp_path / "bundle") as writer:
        for name in good.manifest.files:
            writer.add(name, good.read(name))
        graphs = tuple(
            dataclasses.replace(g, activation_bytes=Growth(per_pair=10 * 2**30))
            if g.variant.graph == "match"
            else g
            for g in good.manifest.graphs
        )
        writer.finish(dataclasses.replace(good.manifest, graphs=graphs))
    one_query = EngineSpec(queries=ProfileRange(1, 1, 1), supports=ProfileRange(1, 1, 5))
    with pytest.raises(BuildError) as caught:
        build_engine(tmp_path / "bundle", "rtx-4090", spec=one_query)
    assert "24.0 GiB" in str(caught.value.expected)
    assert "--queries 1:1:1 --supports 1:1:2" in str(caught.value.fix)
    built = build_engine(tmp_path / "bundle", "sm89", spec=one_query)
    assert built.manifest.engines  # an architecture alone has no known memory
