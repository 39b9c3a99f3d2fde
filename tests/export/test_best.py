"""`--precision best` on a GPU that is not there: who may take part, who wins, what is kept."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from helpers.bundles.real_contract import ORIN, SIZE, write_small_bundle

from hsnet_trt.errors import BackendError, BuildError
from hsnet_trt.export.best import build_best
from hsnet_trt.export.build_engine import build_engine
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.figures import AccuracyFigure
from hsnet_trt.runtime.bundle.variants import add_variants


@pytest.fixture
def gpu(orin: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr("hsnet_trt.export.best.find_driver", lambda: ORIN)
    monkeypatch.setattr("hsnet_trt.export.fastest.has", lambda package: package == "pycuda")
    # What holds INT8 is told by the real TensorRT; this one has no such layers.
    monkeypatch.setattr("hsnet_trt.export.build_engine.quantised", lambda record: 1)


def bundle_with_int8(folder: Path, *figures: AccuracyFigure) -> Bundle:
    source = write_small_bundle(folder)
    graphs = []
    for entry in source.manifest.graphs[:3]:
        variant = dataclasses.replace(entry.variant, precision="int8")
        new = dataclasses.replace(entry, variant=variant, file=f"{entry.file}.int8")
        graphs.append((new, {new.file: source.read(entry.file)}))
    return add_variants(source, folder, graphs, accuracy=figures)


def cost(precision: str, loss: float) -> AccuracyFigure:
    return AccuracyFigure(SIZE, precision, "onnxruntime", "drawn", 300, 60 - loss, 60.0, 0.01)


def clock(times: dict[str, float | str]) -> Callable[..., float]:
    """Milliseconds by precision; a text is why it cannot run."""

    def measure(
        bundle: Bundle, flavour: str, precision: str, sizes: Sequence[tuple[int, int]]
    ) -> float:
        assert flavour == "tensorrt"
        assert tuple(sizes) == (SIZE,)
        assert {e.variant.precision for e in bundle.manifest.engines} >= {precision}
        bundle.check()
        time = times[precision]
        if isinstance(time, str):
            raise BackendError(time)
        return time

    return measure


def test_the_fastest_is_kept_and_nothing_else(gpu: None, tmp_path: Path) -> None:
    source = bundle_with_int8(tmp_path / "b", cost("int8", 0.4))
    build_engine(source.path, "this", "fp32")  # a rival that the runtime might take
    built, tried = build_best(
        source.path,
        "this",
        tmp_path / "out",
        measure=clock({"fp32": 9.0, "fp16": 4.0, "int8": 3.0}),
    )
    assert {e.variant.precision for e in built.manifest.engines} == {"int8"}
    assert len(built.manifest.engines) == 3
    assert [(c.precision, c.milliseconds) for c in tried] == [
        ("fp32", 9.0),
        ("fp16", 4.0),
        ("int8", 3.0),
    ]
    told = json.loads(built.read("engines/best.sm87.tensorrt.json"))
    assert told[2] == {
        "precision": "int8",
        "loss": pytest.approx(0.4),
        "milliseconds": 3.0,
        "left_out": None,
    }
    assert not any("fp32" in n for n in built.manifest.files if n.startswith("engines/"))
    built.check()


@pytest.mark.parametrize(
    ("loss", "budget", "kept", "words"),
    [
        (0.4, 1.0, "int8", None),
        (1.4, 1.0, "fp16", "costs 1.40 points"),
        (1.4, 2.0, "int8", None),
        (None, 1.0, "fp16", "nobody measured"),
    ],
)
def test_the_budget_decides_who_takes_part(
    gpu: None, tmp_path: Path, loss: float | None, budget: float, kept: str, words: str | None
) -> None:
    figures = [] if loss is None else [cost("int8", loss)]
    source = bundle_with_int8(tmp_path / "b", *figures)
    times: dict[str, float | str] = {"fp32": 9.0, "fp16": 4.0, "int8": 3.0}
    built, tried = build_best(source.path, "this", budget=budget, measure=clock(times))
    assert {e.variant.precision for e in built.manifest.engines} == {kept}
    left_out = tried[2].left_out
    assert (words is None and left_out is None) or str(words) in str(left_out)


def test_what_int8_costs_on_a_cpu_is_no_figure_of_engines(gpu: None, tmp_path: Path) -> None:
    dear = dataclasses.replace(cost("int8", 5.0), lowering="packed")
    source = bundle_with_int8(tmp_path / "b", dear, cost("int8", 0.1))
    times: dict[str, float | str] = {"fp32": 9.0, "fp16": 4.0, "int8": 3.0}
    _, tried = build_best(source.path, "this", measure=clock(times))
    assert tried[2].left_out is None and tried[2].loss == pytest.approx(0.1)


def test_graphs_for_a_cpu_are_no_candidate(gpu: None, tmp_path: Path) -> None:
    """INT8 of the packed lowering, of which engines cannot be built."""
    source = write_small_bundle(tmp_path / "b")
    graphs = []
    for entry in source.manifest.graphs[:3]:
        variant = dataclasses.replace(entry.variant, precision="int8", lowering="packed")
        new = dataclasses.replace(entry, variant=variant, file=f"{entry.file}.int8")
        graphs.append((new, {new.file: source.read(entry.file)}))
    add_variants(source, source.path, graphs, accuracy=[cost("int8", 0.1)])
    built, tried = build_best(source.path, "this", measure=clock({"fp32": 9.0, "fp16": 4.0}))
    assert {e.variant.precision for e in built.manifest.engines} == {"fp16"}
    assert "does not hold its graphs" in str(tried[2].left_out)


def test_what_answers_wrongly_is_left_out(gpu: None, tmp_path: Path) -> None:
    source = write_small_bundle(tmp_path / "b")
    times: dict[str, float | str] = {"fp32": 9.0, "fp16": "it does not give what PyTorch gave"}
    built, tried = build_best(source.path, "this", measure=clock(times))
    assert {e.variant.precision for e in built.manifest.engines} == {"fp32"}
    assert "PyTorch" in str(tried[1].left_out)
    assert "does not hold" in str(tried[2].left_out)
    times["fp32"] = "no"
    before = (source.path / "bundle.json").read_bytes()
    with pytest.raises(BuildError, match="no precision") as caught:
        build_best(source.path, "this", measure=clock(times))
    assert "fp16: it does not give" in str(caught.value.found)
    assert (source.path / "bundle.json").read_bytes() == before


@pytest.mark.parametrize("target", ["rtx-4090", "portable", "h100"])
def test_where_there_is_no_such_gpu_it_is_refused(tmp_path: Path, target: str) -> None:
    bundle = write_small_bundle(tmp_path / "b")
    with pytest.raises(BuildError, match="measured on the GPU") as caught:
        build_best(bundle.path, target, tmp_path / "out")
    assert "name a precision" in str(caught.value.fix)
    assert not (tmp_path / "out").exists()
