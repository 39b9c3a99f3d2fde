"""A whole benchmark: from bundles to a record of everything measured, and on which machine."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hsnet_trt.benchmarks.limits import rates as machine_rates
from hsnet_trt.benchmarks.limits.case import Case
from hsnet_trt.benchmarks.limits.machine_facts import machine_facts
from hsnet_trt.benchmarks.limits.roofline import Counter, roofline
from hsnet_trt.benchmarks.speed.contenders import Spec, bundle_specs, torch_specs
from hsnet_trt.benchmarks.speed.race import Effort, Outcome, Progress, SpeedRow, label, race
from hsnet_trt.benchmarks.speed.scaling import Scale
from hsnet_trt.benchmarks.speed.scaling import measure as measure_scaling
from hsnet_trt.errors import HSNetError, InputError
from hsnet_trt.model.checkpoint import load_checkpoint, weights_sha256
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.recipe import recipe_model
from hsnet_trt.runtime.bundle import Bundle

FORMAT = 1
NOISY_MACHINE = 0.10  # share of the machine that others may use before the record warns


@dataclass(frozen=True)
class BenchmarkPlan:
    """What to measure: which cases, how long, and where PyTorch runs."""

    shots: tuple[int, ...] = (1, 5)
    areas: tuple[float, ...] = (0.2, 1.0)
    classes: tuple[int, ...] = (1,)
    batches: tuple[int, ...] = (1,)
    all_sizes: bool = False  # every size of the bundles, not only the first
    only: str = ""  # only contenders whose name contains this, and the baseline
    device: str = "cpu"
    scaling: bool = True  # whether to measure how cost grows with shots, classes and sizes
    effort: Effort = field(default_factory=Effort)
    weights: str | None = None  # which set of a checkpoint that holds several


# Everything of interest; takes hours.
FULL = BenchmarkPlan(classes=(1, 5), batches=(1, 2, 4, 8), all_sizes=True)


@dataclass
class Record:
    """The result of a benchmark."""

    command: str
    machine: dict[str, Any]
    effort: Effort
    rates: dict[str, float] = field(default_factory=dict)  # operations/s by precision, copy bytes/s
    rows: list[SpeedRow] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    energy_source: str | None = None
    bystanders: float | None = None
    scaling: list[Scale] = field(default_factory=list)
    finished: bool = False
    format: int = FORMAT

    @property
    def warnings(self) -> list[str]:
        """Reasons not to trust the figures, if any."""
        found = [f"WRONG RESULTS: {line}" for line in self.wrong]
        if not self.finished:
            found.append("the run has not come to its end: this is what it had found until then")
        if self.bystanders is not None and self.bystanders > NOISY_MACHINE:
            found.append(
                f"other processes used {self.bystanders:.0%} of the machine meanwhile: times are "
                "too long, and ratios flatter whoever waits less for its threads. Repeat it on a "
                "quiet machine"
            )
        noisy = [row for row in self.rows if row.times.noisy]
        if noisy:
            found.append(
                f"{len(noisy)} of {len(self.rows)} figures are noisy (marked ~): the medians of "
                "their rounds spread by more than 10 %, or there was one round alone"
            )
        return found


def benchmark(
    bundles: Sequence[str | os.PathLike[str]],
    checkpoint: str | os.PathLike[str] | None,
    plan: BenchmarkPlan,
    command: str = "",
    progress: Progress = lambda what, done, total: None,
    keep: Callable[[Record], None] = lambda record: None,
) -> Record:
    """Measure bundles beside PyTorch.

    Args:
        bundles: their folders. Bundles of one backbone must hold the same weights.
        checkpoint: the weights, for PyTorch; None if they are those of `random-checkpoint`.
        plan: what to measure.
        command: stored in the record.
        progress: called before each step.
        keep: called after each case with the record so far, whose `finished` is False.

    Raises:
        BundleError: a folder is not a bundle.
        InputError: a bundle has other weights than the checkpoint, or there is no bundle.
    """
    record = Record(command, machine_facts(), plan.effort)
    groups = _groups(bundles, plan)
    _check_weights(groups, checkpoint, plan.weights)
    record.rates = machine_rates.measure(plan.device)
    shares = []
    for (backbone, size), paths in groups.items():
        specs = _specs(backbone, paths, checkpoint, plan)
        joined = functools.partial(_joined, record, specs=specs, bundle=paths[0], size=size)
        outcome = race(
            specs,
            _cases(backbone, size, plan),
            HSNet(backbone).grids(size),
            plan.effort,
            progress,
            functools.partial(_keep, keep, joined),
        )
        # On a busy machine, the best rate shows only in quiet moments: keep the highest.
        for kind, rate in machine_rates.measure(plan.device).items():
            record.rates[kind] = max(rate, record.rates.get(kind, 0.0))
        shares.append(outcome.bystanders)
        record = joined(outcome)
        keep(record)
    if plan.scaling:
        record.scaling = _scaling(record, groups, progress)
    known = [share for share in shares if share is not None]
    record.bystanders = max(known, default=None)
    record.finished = True
    return record


def _keep(
    keep: Callable[[Record], None], joined: Callable[[Outcome], Record], outcome: Outcome
) -> None:
    keep(joined(outcome))


def _scaling(
    record: Record, groups: dict[tuple[str, tuple[int, int]], list[str]], progress: Progress
) -> list[Scale]:
    """Scaling of the first bundle's first contender, at all sizes of that bundle."""
    first = next(iter(groups.values()))[0]
    try:
        return measure_scaling(bundle_specs(first)[0], Bundle.open(first).manifest.sizes, progress)
    except HSNetError as error:
        record.refused["scaling"] = str(error)
        return []


def as_json(record: Record) -> dict[str, Any]:
    """The record as plain values for JSON."""
    return {**dataclasses.asdict(record), "warnings": record.warnings}


def _groups(
    bundles: Sequence[str | os.PathLike[str]], plan: BenchmarkPlan
) -> dict[tuple[str, tuple[int, int]], list[str]]:
    """Bundles by backbone and size. Raises InputError if there are none."""
    found: dict[tuple[str, tuple[int, int]], list[str]] = {}
    for path in bundles:
        manifest = Bundle.open(path).manifest
        for size in manifest.sizes if plan.all_sizes else manifest.sizes[:1]:
            found.setdefault((manifest.model.backbone, size), []).append(os.fspath(path))
    if not found:
        raise InputError("there is nothing to measure", expected="at least one bundle")
    return found


def _check_weights(
    groups: dict[tuple[str, tuple[int, int]], list[str]],
    checkpoint: str | os.PathLike[str] | None,
    choice: str | None,
) -> None:
    for backbone in dict.fromkeys(name for name, _ in groups):
        model = (
            load_checkpoint(checkpoint, weights=choice) if checkpoint else recipe_model(backbone)
        )
        ours = weights_sha256(model)
        for path in {
            path for (name, _), paths in groups.items() if name == backbone for path in paths
        }:
            if Bundle.open(path).manifest.model.weights_sha256 != ours:
                raise InputError(
                    f"{path} holds other weights than PyTorch would run",
                    expected=f"those of {checkpoint or 'hsnet-trt random-checkpoint'}",
                    fix="pass the bundle's own --checkpoint",
                )


def _specs(
    backbone: str,
    paths: Sequence[str],
    checkpoint: str | os.PathLike[str] | None,
    plan: BenchmarkPlan,
) -> list[Spec]:
    path = None if checkpoint is None else os.fspath(checkpoint)
    torch = torch_specs(backbone, path, plan.device, plan.weights)
    ours = [
        spec
        for path in paths
        for spec in bundle_specs(path, os.path.basename(path) if len(paths) > 1 else "")
    ]
    wanted = [s for s in (*torch[1:], *ours) if plan.only.lower() in label(s).lower()]
    return [torch[0], *wanted]


def _cases(backbone: str, size: tuple[int, int], plan: BenchmarkPlan) -> list[Case]:
    """Shots times areas, few shots first; then classes, then batches, each varied alone."""
    area = plan.areas[0]
    cases = [Case(backbone, size, shots=s, area=a) for s in plan.shots for a in plan.areas]
    cases += [Case(backbone, size, classes=n, area=area) for n in plan.classes if n > 1]
    cases += [Case(backbone, size, batch=n, area=area) for n in plan.batches if n > 1]
    return cases


def _joined(
    record: Record,
    outcome: Outcome,
    specs: Sequence[Spec],
    bundle: str,
    size: tuple[int, int],
) -> Record:
    """The record with the outcome added, each row with its roofline.

    PyTorch's rows are compared with the work of the bundle's FP32 graphs at the rate of their own
    precision: what the authors' order computes twice, or on zeros, is not useful work.
    """
    counters: dict[tuple[str, str, bool], Counter] = {}
    sources = {label(spec): spec for spec in specs}
    rows = []
    for row in outcome.rows:
        spec = sources[f"{row.contender} {row.precision}"]
        ours = spec.kind == "bundle"
        packed = not ours or spec.backend == "onnxruntime"
        key = (spec.bundle or bundle, spec.precision if ours else "fp32", packed)
        if key not in counters:
            counters[key] = Counter(Bundle.open(key[0]), size, key[1], packed=packed)
        roof = roofline(
            counters[key].work(row.case, row.workload),
            row.times.median,
            record.rates,
            None if ours else spec.precision,
        )
        rows.append(dataclasses.replace(row, roofline=roof))
    return dataclasses.replace(
        record,
        rows=[*record.rows, *rows],
        refused=record.refused | outcome.refused,
        wrong=[*record.wrong, *outcome.wrong],
        facts=record.facts | outcome.facts,
        energy_source=record.energy_source or outcome.energy_source,
    )
