"""Compare a bundle on any backend with the PyTorch outputs recorded when it was made."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import BackendError, BundleError
from hsnet_trt.runtime.backends import open_runner
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.figures import GoldenFile, Tolerance
from hsnet_trt.runtime.differences import Differences, flipped
from hsnet_trt.runtime.matching.graphs import FEATURES, Tensors, names_of
from hsnet_trt.runtime.matching.packing import supports_in
from hsnet_trt.runtime.matching.runner import Runner
from hsnet_trt.runtime.matching.running import run_features, run_match, run_support
from hsnet_trt.runtime.pictures.preprocess import normalise


@dataclass(frozen=True)
class Figure:
    """The differences between one tensor and PyTorch's.

    Attributes:
        graph: the graph that computed it: features, support or match.
        tensor: its name.
        max_difference: the largest |difference|, in the tensor's own unit.
        relative: `max_difference` over the standard deviation of PyTorch's values; NaN if a value
            is not finite.
        relative_p999: the 99.9th percentile of |difference| over the same.
    """

    graph: str
    tensor: str
    max_difference: float
    relative: float
    relative_p999: float


@dataclass(frozen=True)
class Verification:
    """One size of a bundle on one backend, against PyTorch.

    Attributes:
        size: height and width of the network's input.
        backend: the backend that ran it.
        precision: fp32, fp16 or int8.
        device: the device it ran on, in words.
        figures: one per tensor, in the order of computation; the logits last.
        tolerance: bounds for the logits.
        flipped: the share of decoder positions whose argmax differs, in [0,1].
    """

    size: tuple[int, int]
    backend: str
    precision: str
    device: str
    figures: tuple[Figure, ...]
    tolerance: Tolerance
    flipped: float

    @property
    def passed(self) -> bool:
        """Whether the logits are within tolerance; NaN never is."""
        return self._within(self.figures[-1]) and self.flipped <= self.tolerance.flipped

    @property
    def culprit(self) -> Figure | None:
        """The first tensor outside the logits' tolerance; None if the verification passed."""
        if self.passed:
            return None
        return next((f for f in self.figures if not self._within(f)), self.figures[-1])

    def _within(self, figure: Figure) -> bool:
        bounds = self.tolerance
        return (
            figure.relative <= bounds.max_difference
            and figure.relative_p999 <= bounds.p999_difference
        )


def verify_bundle(
    path: str | os.PathLike[str],
    backend: str = "auto",
    size: int | tuple[int, int] | None = None,
    precision: str | None = None,
    sha256: str | None = None,
) -> list[Verification]:
    """Check every hash of a bundle, and its network against the golden outputs of PyTorch.

    Args:
        path: the bundle's folder.
        backend: as for `FewShotSegmenter.load`.
        size: one of the bundle's sizes; None for all of them.
        precision: as for `FewShotSegmenter.load`.
        sha256: as for `FewShotSegmenter.load`.

    Returns:
        One verification per size; see `Verification.passed`.

    Raises:
        BundleError: no bundle, an altered file, or no golden outputs for that size and precision.
        BackendError: the backend cannot run here.
        InputError: no such backend or precision, or a size that is not a number or a pair.
    """
    bundle = Bundle.open(path, sha256=sha256)
    bundle.check()
    wanted = list(bundle.manifest.sizes) if size is None else [bundle.size(size)]
    results = []
    for each in wanted:
        golden = golden_of(bundle, each)
        runner, _ = open_runner(bundle, each, backend, precision)
        try:
            results.append(verify_runner(bundle, golden, runner))
        finally:
            runner.close()
    return results


def golden_of(bundle: Bundle, size: tuple[int, int]) -> GoldenFile:
    """The golden outputs of one size.

    Raises:
        BundleError: the bundle holds none at that size.
    """
    for golden in bundle.manifest.golden:
        if golden.size == size:
            return golden
    raise BundleError(
        f"the bundle holds no golden outputs at {size[0]}x{size[1]}", fix="export it again"
    )


def verify_runner(bundle: Bundle, golden: GoldenFile, runner: Runner) -> Verification:
    """Check an opened network of one size against the golden outputs.

    Raises:
        BundleError: the bundle states no tolerance for that precision, or its golden outputs do not
            fit its graphs.
        BackendError: the runner failed.
    """
    tolerance = golden.tolerance.get(runner.precision)
    if tolerance is None:
        raise BundleError(
            f"the bundle states no tolerance for {runner.precision}",
            expected=f"one of {sorted(golden.tolerance)}",
            fix="export that precision again, or verify another one",
        )
    figures, changed = golden_figures(bundle, golden, runner)
    return Verification(
        golden.size, runner.backend, runner.precision, runner.device, figures, tolerance, changed
    )


def golden_figures(
    bundle: Bundle, golden: GoldenFile, runner: Runner
) -> tuple[tuple[Figure, ...], float]:
    """Run the golden inputs, and compare each tensor with PyTorch's.

    Returns:
        The figures, the logits' last, and the share of decoder positions whose argmax differs, in
        [0,1].

    Raises:
        BundleError: the golden outputs do not fit this bundle's graphs.
        BackendError: the runner failed.
    """
    data = read_golden(bundle, golden)
    found: Tensors = run_features(runner, _normalised(bundle, data["queries"]))
    figures = [_sampled("features", name, found[name], data) for name in FEATURES]
    shown = run_features(runner, _normalised(bundle, data["supports"]))
    supports = run_support(runner, shown, data["masks"].astype(np.float32))
    figures += [_sampled("support", name, supports[name], data) for name in supports_in(data)]
    expected = data["logits"]
    try:
        logits = run_match(runner, found, supports)
    except BackendError as error:
        if "not finite" not in error.summary:
            raise
        logits = np.full(expected.shape, np.nan, np.float32)
    if logits.shape != expected.shape:
        raise BundleError(
            "the golden logits are of another shape", expected=expected.shape, found=logits.shape
        )
    figures.append(_compare("match", "logits", logits, expected))
    return tuple(figures), flipped(logits, expected)


def read_golden(bundle: Bundle, golden: GoldenFile) -> Tensors:
    """The arrays of golden inputs and outputs: see `export.graphs.golden`.

    Raises:
        BundleError: the file was altered, or lacks one of the arrays.
    """
    names = ["queries", "supports", "masks", "logits"]
    _, supports = names_of("support", contrast=bool(bundle.manifest.model.contrast))
    names += [name + end for name in (*FEATURES, *supports) for end in ("", "_index")]
    try:
        with np.load(io.BytesIO(bundle.read(golden.file)), allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"{golden.file} does not hold golden outputs",
            found=error,
            fix="export the bundle again",
        ) from error


def _normalised(bundle: Bundle, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.stack([normalise(image, bundle.manifest.preprocessing) for image in images])


def _sampled(graph: str, name: str, found: npt.NDArray[Any], data: Tensors) -> Figure:
    index = data[f"{name}_index"]
    if len(index) and (index.min() < 0 or index.max() >= found.size):
        raise BundleError(
            f"the golden {name} is of another shape",
            expected=f"positions below {found.size}",
            found=int(index.max()),
            fix="export the bundle again",
        )
    return _compare(graph, name, found.reshape(-1)[index], data[name])


def _compare(graph: str, name: str, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Figure:
    d = Differences.between(found, expected)
    return Figure(graph, name, d.largest, d.relative(d.largest), d.relative(d.p999))
