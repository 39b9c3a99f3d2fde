"""Adding graphs to a bundle: what joins, what is replaced, what goes with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import SIZE

from hsnet_trt.errors import BundleError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.figures import AccuracyFigure, ParityFigure, Tolerance
from hsnet_trt.runtime.bundle.manifest import EngineFile, GraphFile, Manifest, ProfileRange
from hsnet_trt.runtime.bundle.variants import add_variants

BOUND = Tolerance(0.1, 0.05, 0.01)


def as_int8(entry: GraphFile) -> GraphFile:
    variant = dataclasses.replace(entry.variant, precision="int8")
    return dataclasses.replace(entry, variant=variant, file=entry.file + ".int8")


def added(source: Bundle, out: Path) -> Bundle:
    graphs = [
        (as_int8(g), {g.file + ".int8": b"int8 graph"})
        for g in source.manifest.graphs
        if g.variant.precision == "fp32"
    ]
    figure = ParityFigure(
        SIZE, "int8", "conv2d", "native", "torch-float32", "onnxruntime", 1, 1, 0.1, 0.05, 0.01, 1.0
    )
    cost = AccuracyFigure(SIZE, "int8", "onnxruntime", "drawn", 300, 60.0, 60.5, 0.01)
    return add_variants(
        source,
        out,
        graphs,
        tolerance={"int8": BOUND},
        parity=[figure],
        accuracy=[cost],
        files={"calibration/ranges.json": b"{}"},
        command="calibrate",
    )


def test_what_is_there_stays_and_what_is_new_joins(tmp_path):
    source = Bundle.open(make_bundle(tmp_path / "b"))
    bundle = added(source, tmp_path / "b")
    old, new = source.manifest, bundle.manifest
    assert [g.variant.precision for g in new.graphs] == ["fp32"] * 3 + ["int8"] * 3
    assert new.graphs[:3] == old.graphs
    assert bundle.read(bundle.graph("match", SIZE, "int8").file) == b"int8 graph"
    assert bundle.read("calibration/ranges.json") == b"{}"
    assert new.golden[0].tolerance == {**old.golden[0].tolerance, "int8": BOUND}
    assert new.accuracy[0].miou_fp32 == 60.5
    assert new.commands == (*old.commands, "calibrate")
    assert Manifest.from_json(new.to_json()) == new
    bundle.check()


def test_twice_is_as_once_and_stale_engines_go(tmp_path):
    source = added(Bundle.open(make_bundle(tmp_path / "b")), tmp_path / "b")

    def engine(precision: str) -> EngineFile:
        return EngineFile(
            source.graph("match", SIZE, precision).variant,
            f"engines/{precision}.engine",
            "this",
            "tensorrt",
            "10.3",
            ("8.9",),
            "linux-x86_64",
            {"B": ProfileRange(1, 1, 1)},
            1.0,
        )

    engines = (engine("fp32"), engine("int8"))
    files = {name: b"engine" for e in engines for name in (e.file, e.record)}
    entry = source.manifest.graphs[0]
    with_engines = add_variants(
        source, tmp_path / "c", [(entry, {entry.file: source.read(entry.file)})], files=files
    )
    # `add_variants` adds no engines; their entries are written as build_engine writes them.
    manifest = dataclasses.replace(with_engines.manifest, engines=engines)
    (tmp_path / "c" / "bundle.json").write_text(manifest.to_json())
    again = added(Bundle.open(tmp_path / "c"), tmp_path / "d")
    assert {g.variant for g in again.manifest.graphs} == {g.variant for g in source.manifest.graphs}
    assert len(again.manifest.graphs) == 6
    assert again.manifest.engines == (engine("fp32"),)
    assert {"engines/fp32.engine", "engines/fp32.json"} <= again.manifest.files.keys()
    assert not {"engines/int8.engine", "engines/int8.json"} & again.manifest.files.keys()
    assert len(again.manifest.parity) == len(again.manifest.accuracy) == 1


def test_figures_of_another_size_stay(tmp_path):
    first = added(Bundle.open(make_bundle(tmp_path / "b")), tmp_path / "b")
    other = (SIZE[0] + 32, SIZE[1] + 32)
    entry = first.manifest.graphs[-1]
    moved = dataclasses.replace(
        entry, variant=dataclasses.replace(entry.variant, size=other), file="graphs/other.onnx"
    )
    figure = dataclasses.replace(first.manifest.parity[0], size=other)
    cost = dataclasses.replace(first.manifest.accuracy[0], size=other)
    bundle = add_variants(
        first,
        tmp_path / "c",
        [(moved, {moved.file: b"int8 graph"})],
        tolerance={"int8": dataclasses.replace(BOUND, max_difference=9.0)},
        parity=[figure],
        accuracy=[cost],
    )
    assert bundle.manifest.parity == (*first.manifest.parity, figure)
    assert bundle.manifest.accuracy == (*first.manifest.accuracy, cost)
    assert bundle.manifest.golden[0].tolerance["int8"] == BOUND  # that of its own size


def test_a_graph_without_its_file_is_refused_and_nothing_is_written(tmp_path):
    source = Bundle.open(make_bundle(tmp_path / "b"))
    entry = as_int8(source.manifest.graphs[0])
    with pytest.raises(BundleError, match="does not come with its files"):
        add_variants(source, tmp_path / "c", [(entry, {})])
    assert not (tmp_path / "c").exists()


def test_an_altered_file_is_not_carried_over(tmp_path):
    source = Bundle.open(make_bundle(tmp_path / "b"))
    path = tmp_path / "b" / source.manifest.graphs[0].file
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleError, match="altered"):
        added(source, tmp_path / "c")
    assert not (tmp_path / "c").exists()
