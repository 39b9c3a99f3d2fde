"""`--precision best`: build every precision of the bundle, time each here, keep the fastest.

Which precision is fastest depends on the card and on what its TensorRT fuses (INT8 is slower than
FP16 where its conversions are not fused), so it is measured. A precision is left out if it costs
more accuracy than the budget allows, or if its outputs here differ from PyTorch's by more than the
tolerance.
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
from hsnet_trt.export.engines.builder import choice_name
from hsnet_trt.export.engines.events import OnEvent
from hsnet_trt.export.engines.options import PRECISIONS, EngineSpec
from hsnet_trt.export.engines.targets import find_target
from hsnet_trt.export.fastest import (
    NothingRuns,
    build_fastest,
    check_measurable,
    drop_engines,
    reason,
    require_passed,
)
from hsnet_trt.runtime.backends import CPU_LOWERING
from hsnet_trt.runtime.bundle import Bundle, check_place
from hsnet_trt.runtime.bundle.manifest import EngineFile
from hsnet_trt.runtime.device.machine import find_driver
from hsnet_trt.runtime.lowering_choice import AUTO
from hsnet_trt.runtime.segmenter import FewShotSegmenter
from hsnet_trt.runtime.verify import golden_of, read_golden, verify_bundle

BUDGET = 1.0  # points of mIoU
_WARM_UP, _FRAMES = 10, 50

Grid = tuple[int, int]


@dataclass(frozen=True)
class Candidate:
    """One precision of a bundle: its time on this machine, or why it was left out."""

    precision: str
    loss: float | None  # in points of mIoU; None if not measured
    milliseconds: float | None = None  # median of features + match for one query
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
    """Build engines in the precision that is fastest on this machine's GPU.

    Engines of other precisions for the same target are removed from the bundle, so that the runtime
    uses the chosen one.

    Args:
        bundle: the bundle with the graphs.
        target: a target that this machine is, such as `this`.
        out: where to write; by default `bundle` itself.
        spec: as for `build_engine`; only the first of its sizes is timed.
        budget: points of mIoU that a precision may cost, by the bundle's accuracy figures. Without
            a figure, FP16 is tried (its parity with PyTorch was checked), and INT8 is not.
        on_event: as for `build_engine`.
        command: the command line to record.
        measure: (bundle, flavour, precision, sizes) -> milliseconds; by default `time_engines`.

    Returns:
        the written bundle, and what was tried.

    Raises:
        BuildError: this machine has no such GPU, or no precision qualifies.
        HSNetError: as for `build_engine`.
    """
    source, driver = Bundle.open(bundle), find_driver()
    goal = find_target(target, driver)
    check_measurable(goal, driver, "the best precision", "name a precision: fp16 is what fits most")
    spec = spec or EngineSpec()
    sizes = spec.sizes or source.manifest.sizes
    candidates = [_judge(source, precision, sizes, budget) for precision in PRECISIONS]
    place = Path(bundle if out is None else out)
    check_place(place)
    with tempfile.TemporaryDirectory(prefix="hsnet-trt-") as scratch:
        built: dict[str, Bundle] = {}
        for index, candidate in enumerate(candidates):
            if candidate.left_out is None:
                name = candidate.precision
                build = build_fastest if spec.lowering == AUTO else build_engine
                try:
                    made = build(
                        bundle,
                        target,
                        name,
                        Path(scratch, name),
                        spec,
                        on_event=on_event,
                        command=command,
                    )
                except NothingRuns as error:
                    candidates[index] = dataclasses.replace(candidate, left_out=reason(error))
                    continue
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
    """Median of 50 frames: milliseconds of features and match, for one query and one support.

    Raises:
        BackendError: the engines do not run here, or their outputs are out of tolerance.
    """
    for size in sizes:
        (found,) = verify_bundle(bundle.path, flavour, size, precision)
        require_passed(found)
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


def _judge(source: Bundle, precision: str, sizes: Sequence[Grid], budget: float) -> Candidate:
    """A candidate; left out if its graphs are missing or it costs too much accuracy."""
    graphs = source.manifest.graphs
    for size in sizes:
        there = {
            g.variant.graph
            for g in graphs
            if (g.variant.precision, g.variant.size) == (precision, size)
            and g.variant.lowering != CPU_LOWERING  # of which no engine is built
        }
        if not {"features", "support", "match"} <= there:
            return Candidate(precision, None, left_out="the bundle does not hold its graphs")
    losses = [
        figure.miou_fp32 - figure.miou
        for figure in source.manifest.accuracy
        if figure.precision == precision and figure.size in sizes
        if figure.lowering != CPU_LOWERING
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
        return dataclasses.replace(candidate, left_out=reason(error))
    return dataclasses.replace(candidate, milliseconds=round(ms, 3))


def _keep(built: Bundle, place: Path, candidates: Sequence[Candidate]) -> None:
    """Write the bundle with the chosen engines only, and a record of what was measured."""
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
    tried = json.dumps([dataclasses.asdict(candidate) for candidate in candidates], indent=1) + "\n"
    name = choice_name("best", kept.target, kept.flavour)
    drop_engines(built, place, gone, {name: tried.encode()})


def _alike(one: EngineFile, other: EngineFile) -> bool:
    return (one.target, one.flavour, one.variant.precision) == (
        other.target,
        other.flavour,
        other.variant.precision,
    )
