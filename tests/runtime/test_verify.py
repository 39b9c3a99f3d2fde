"""`verify` passes what is right, and names what is not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle, make_golden
from helpers.bundles.tiny_graphs import SIZE

from hsnet_trt.errors import BundleError
from hsnet_trt.runtime.bundle.figures import GoldenFile, Tolerance
from hsnet_trt.runtime.verify import verify_bundle


def with_golden(path: Path, changes: dict[str, object], tolerance: dict[str, float]) -> Path:
    with np.load(io.BytesIO(make_golden(SIZE))) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name, change in changes.items():
        arrays[name] = change(arrays[name])  # type: ignore[operator]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    bounds = {name: Tolerance(bound, bound, 1.0) for name, bound in tolerance.items()}
    golden = GoldenFile(SIZE, "golden/other.npz", bounds)
    return make_bundle(path, replace={"golden": (golden,)}, extra={golden.file: buffer.getvalue()})


def test_every_size_passes(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "b", sizes=(SIZE, (64, 64)))
    results = verify_bundle(path, backend="onnxruntime")
    assert [r.size for r in results] == [SIZE, (64, 64)]
    for result in results:
        assert result.passed
        assert result.culprit is None
        assert [f.tensor for f in result.figures] == ["f2", "f3", "f4", "s2", "s3", "s4", "logits"]
        assert all(f.relative < 1e-4 for f in result.figures)
        assert result.flipped == 0
    assert [r.size for r in verify_bundle(path, size=64)] == [(64, 64)]


@pytest.mark.parametrize(
    ("spoiled", "culprit", "graph"),
    [
        ({"f3": lambda a: a + 1, "logits": lambda a: a * 2}, "f3", "features"),
        ({"s2": lambda a: a * 3, "logits": lambda a: a * 2}, "s2", "support"),
        ({"logits": lambda a: a * 1.01}, "logits", "match"),
        ({"logits": lambda a: np.where(a > 0.5, np.nan, a)}, "logits", "match"),
    ],
)
def test_the_first_graph_that_differs_is_named(
    tmp_path: Path, spoiled: dict[str, object], culprit: str, graph: str
) -> None:
    (result,) = verify_bundle(with_golden(tmp_path / "b", spoiled, {"fp32": 1e-3}))
    assert not result.passed
    assert result.culprit is not None
    assert (result.culprit.tensor, result.culprit.graph) == (culprit, graph)


def test_figures_are_relative_to_the_spread(tmp_path: Path) -> None:
    def shift(logits: np.ndarray) -> np.ndarray:
        shifted = logits.copy()
        shifted[0, 0, 0, 0, 0] += 0.5
        return shifted

    (result,) = verify_bundle(with_golden(tmp_path / "b", {"logits": shift}, {"fp32": 1e9}))
    figure = result.figures[-1]
    with np.load(io.BytesIO(make_golden(SIZE))) as archive:
        spread = shift(archive["logits"]).astype(np.float64).std()
    assert figure.max_difference == pytest.approx(0.5, abs=1e-5)
    assert figure.relative == pytest.approx(0.5 / spread, rel=1e-4)


@pytest.mark.parametrize(
    ("spoiled", "tolerance", "says"),
    [
        ({}, {"fp16": 1.0}, "tolerance"),
        ({"f2_index": lambda a: a + 10**9}, {"fp32": 1.0}, "another shape"),
        ({"logits": lambda a: a[:, :2]}, {"fp32": 1.0}, "another shape"),
        ({"queries": lambda a: np.array([{}], dtype=object)}, {"fp32": 1.0}, "golden"),
    ],
)
def test_golden_files_that_cannot_be_used(
    tmp_path: Path, spoiled: dict[str, object], tolerance: dict[str, float], says: str
) -> None:
    path = with_golden(tmp_path / "b", spoiled, tolerance)
    with pytest.raises(BundleError, match=says):
        verify_bundle(path)


def test_no_golden_outputs(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="golden"):
        verify_bundle(make_bundle(tmp_path / "b", replace={"golden": ()}))
