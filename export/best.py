"""`--precision best`: build what the bundle holds, measure it on this GPU, keep the fastest.

Which precision is the fastest depends on the card and on what its TensorRT fuses (INT8 is slower
than FP16 where its conversions are not fused), so it is measured and not guessed. A precision is
left out if it costs more accuracy than the budget allows, or if its outputs here are not PyTorch's
within the tolerance.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hsnet_trt.errors import BackendError, BuildError
from hsnet_trt.export.build_engine import build_engine
from hsnet_trt.export.engines.events import OnEvent
from hsnet_trt.export.engines.options import PRECISIONS, EngineSpec
from hsnet_trt.export.engines.targets import Target, find_target
from hsnet_trt.runtime.bundle import Bundle, write_bundle
from hsnet_trt.runtime.bundle.manifest import EngineFile
from hsnet_trt.runtime.device.machine import Driver, find_driver
from hsnet_trt.runtime.segmenter import FewShotSegmenter
from hsnet_trt.runtime.verify import golden_of, read_golden, verify_bundle

BUDGET = 1.0  # points of mIoU
_WARM_UP, _FRAMES = 10, 50

Grid = tuple[int, int]


@dataclass(frozen=True)
class Candidate:
    """One precision of a bundle: how fast it was here, or why it was left out."""

    precision: str
    loss: float | None  # points of mIoU that it costs, None if not measured
    milliseconds: float | None = None  # features and match of one query, the median
    left_out: str | None = None


def build_best(
    bundle: str | os.PathLike[str],
    target: str,
    out: str | os.PathLike[str] | None = None,
    spec: EngineSpec | None = None,
    *,
    budget: float = BUDGET,
    on_event: OnEvent = lambda event: None,
    command: str = "",
    measure: Callable[[Bundle, str, str, Sequence[Grid]], float] | None = None,
) -> tuple[Bundle, list[Candidate]]:
    """Build engines of the precision that is fastest on this machine's GPU.

    Engines of other precisions for the same target leave the bundle, so that the runtime takes the
    one that was kept.

    Args:
        bundle: the bundle with the graphs.
        target: a target that this machine is, such as `this`.
        out: where to write; by default `bundle` itself.
        spec: as of `build_engine`; the first of its sizes is timed.
        budget: points of mIoU that a precision may cost, by the bundle's accuracy figures. Without
            a figure, FP16 takes part (its parity with PyTorch was checked), and INT8 does not.
        on_event: as of `build_engine`.
        command: the command line to record.
        measure: (bundle, flavour, precision, sizes) -> milliseconds; by default `time_engines`.

    Returns:
        the bundle that was written, and what was tried.

    Raises:
        BuildError: this machine has no such GPU, or no precision can be kept.
        HSNetError: as of `build_engine`.
    """
    source, driver = Bundle.open(bundle), find_driver()
    goal = find_target(target, driver)
    _check_gpu(goal, driver)
    spec = spec or EngineSpec()
    sizes = spec.sizes or source.manifest.sizes
    candidates = [_judge(source, precision, sizes, budget) for precision in PRECISIONS]
    place = Path(bundle if out is None else out)
    with tempfile.TemporaryDirectory(prefix="hsnet-trt-") as scratch:
        built: dict[str, Bundle] = {}
        for index, candidate in enumerate(candidates):
            if candidate.left_out is None:
                name = candidate.precision
                made = build_engine(
                    bundle,
                    target,
                    name,
                    Path(scratch, name),
                    spec,
                    on_event=on_event,
                    command=command,
                )
                built[name] = made
                flavour = made.manifest.engines[-1].flavour
                candidates[index] = _timed(candidate, made, flavour, sizes, measure)
        in_time = [c for c in candidates if c.milliseconds is not None]
        if not in_time:
            raise BuildError(
                "no precision of the bundle can be kept",
                found="; ".join(f"{c.precision}: {c.left_out}" for c in candidates),
                fix="allow more with --accuracy-budget, or name a --precision",
            )
        best = min(in_time, key=lambda c: c.milliseconds or 0.0)
        _keep(built[best.precision], place, candidates)
    return Bundle.open(place), candidates


def time_engines(bundle: Bundle, flavour: str, precision: str, sizes: Sequence[Grid]) -> float:
    """Milliseconds of features and match for one query and one support, the median of 50 frames.

    Raises:
        BackendError: the engines do not run here, or their outputs are not PyTorch's.
    """
    for size in sizes:
        (found,) = verify_bundle(bundle.path, flavour, size, precision)
        if not found.passed:
            worst = found.figures[-1]
            raise BackendError(
                "it does not give what PyTorch gave",
                expected=found.tolerance,
                found=f"{worst.relative:.1e} of the logits' spread at {size[0]}x{size[1]}",
            )
    data = read_golden(bundle, golden_of(bundle, sizes[0]))
    with FewShotSegmenter.load(
        bundle.path, flavour, size=sizes[0], precision=precision
    ) as segmenter:
        segmenter.set_support("golden", list(data["supports"][:1]), list(data["masks"][:1]))
        times = []
        for _ in range(_WARM_UP + _FRAMES):
            timing = segmenter.segment(data["queries"][0]).timing
            times.append(timing["features"] + timing["match"])
    return float(np.median(times[_WARM_UP:]))


def _check_gpu(target: Target, driver: Driver) -> None:
    here = driver.gpus[0].compute_capability if driver.gpus else None
    if here is None or target.compute_capability not in (None, here):
        raise BuildError(
            "the best precision is measured on the GPU that it is for",
            expected=f"a machine with {target.title}",
            found=f"compute capability {here}" if here else driver.problem or "no GPU",
            fix="run this on that machine, or name a precision: fp16 is what fits most",
        )


def _judge(source: Bundle, precision: str, sizes: Sequence[Grid], budget: float) -> Candidate:
    """A candidate; left out if its graphs are missing or cost too much."""
    graphs = source.manifest.graphs
    for size in sizes:
        there = {
            g.variant.graph
            for g in graphs
            if (g.variant.precision, g.variant.size) == (precision, size)
        }
        if not {"features", "support", "match"} <= there:
            return Candidate(precision, None, left_out="the bundle does not hold its graphs")
    losses = [
        figure.miou_fp32 - figure.miou
        for figure in source.manifest.accuracy
        if figure.precision == precision and figure.size in sizes
    ]
    loss = max(losses) if losses else None
    if loss is not None and loss > budget:
        return Candidate(
            precision, loss, left_out=f"it costs {loss:.2f} points of mIoU, {budget:g} are allowed"
        )
    if precision == "int8" and loss is None:
        return Candidate(precision, None, left_out="nobody measured what it costs (calibrate does)")
    return Candidate(precision, loss)


def _timed(
    candidate: Candidate,
    made: Bundle,
    flavour: str,
    sizes: Sequence[Grid],
    measure: Callable[[Bundle, str, str, Sequence[Grid]], float] | None,
) -> Candidate:
    try:
        ms = (measure or time_engines)(made, flavour, candidate.precision, sizes)
    except BackendError as error:
        reason = f"{error.summary} ({error.found})" if error.found else error.summary
        return dataclasses.replace(candidate, left_out=reason)
    return dataclasses.replace(candidate, milliseconds=round(ms, 3))


def _keep(built: Bundle, place: Path, candidates: Sequence[Candidate]) -> None:
    """Write the bundle with the engines that were kept, and what was measured beside them."""
    manifest = built.manifest
    kept = manifest.engines[-1]

    def rival(engine: EngineFile) -> bool:
        v = engine.variant
        return (
            (engine.target, engine.flavour) == (kept.target, kept.flavour)
            and v.precision != kept.variant.precision
            and v.size in {e.variant.size for e in manifest.engines if _alike(e, kept)}
        )

    gone = [engine for engine in manifest.engines if rival(engine)]
    files = {name for engine in gone for name in (engine.file, engine.record)}
    with write_bundle(place) as writer:
        for name in manifest.files:
            if name not in files:
                writer.add(name, built.read(name))
        tried = [dataclasses.asdict(candidate) for candidate in candidates]
        writer.add(
            f"engines/best.{kept.target}.{kept.flavour}.json",
            (json.dumps(tried, indent=1) + "\n").encode(),
        )
        engines = tuple(engine for engine in manifest.engines if engine not in gone)
        writer.finish(dataclasses.replace(manifest, engines=engines))


def _alike(one: EngineFile, other: EngineFile) -> bool:
    return (one.target, one.flavour, one.variant.precision) == (
        other.target,
        other.flavour,
        other.variant.precision,
    )
