"""The race: contenders timed in turn, in rounds of shuffled order."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hsnet_trt.benchmarks.limits.case import Case, draw_inputs
from hsnet_trt.benchmarks.limits.energy import EnergyMeter
from hsnet_trt.benchmarks.limits.machine_facts import Bystanders
from hsnet_trt.benchmarks.limits.roofline import Roofline
from hsnet_trt.benchmarks.speed.contenders import BASELINE, Spec
from hsnet_trt.benchmarks.speed.timing_stats import Ratio, Summary, ratio, summarise
from hsnet_trt.benchmarks.speed.worker import RemoteWorker
from hsnet_trt.errors import HSNetError
from hsnet_trt.export.graphs.lowering import Grid

TOLERANCE = 1e-4  # of scores in [0,1], between contenders in FP32
SLOW = 4.0  # a contender this many times slower than the baseline is not timed in rounds
MODES = (("stream", "latency"), ("episode", "latency"), ("stream", "throughput"))
_SETTLE_S = 0.05  # lets the previous contender's threads go to sleep

Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in total


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    rounds: int = 6  # the range of 6 ratios holds the median with 97 % confidence
    seconds: float = 0.6  # least duration of a turn
    least: int = 1  # least number of calls in a turn


@dataclass(frozen=True)
class SpeedRow:
    """The figures of one contender in one case, workload and mode."""

    case: Case
    contender: str
    precision: str
    workload: str  # stream: a query, with supports registered before | episode: supports and query
    mode: str  # latency: one at a time | throughput: streamed
    times: Summary  # milliseconds of a call, or between two results
    per_second: float  # queries
    speedup: Ratio | None  # over the baseline in the same mode and rounds; None: no baseline
    host_bytes: int | None
    device_bytes: int | None
    joules: float | None  # per query, of the whole device or processor
    score_difference: float | None  # largest difference to the baseline's scores
    mask_difference: float | None  # share of the pixels
    roofline: Roofline | None = None


@dataclass
class Outcome:
    """Everything that was measured, and which contenders could not take part, and why."""

    rows: list[SpeedRow] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)  # FP32 results that differ from the baseline's
    facts: dict[str, dict[str, str]] = field(default_factory=dict)  # by contender
    energy_source: str | None = None
    bystanders: float | None = None  # share of the machine that other processes used


def label(spec: Spec) -> str:
    """A contender's name with its precision."""
    return f"{spec.name} {spec.precision}"


def race(
    specs: Sequence[Spec],
    cases: Sequence[Case],
    grids: Sequence[Grid],
    effort: Effort,
    progress: Progress = lambda what, done, total: None,
    keep: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Measure every contender in every case.

    Args:
        specs: the contenders; the others are compared with the one named `BASELINE`, if any.
        cases: all of one backbone and size; few shots before many, because memory is measured as a
            peak.
        grids: (h, w) of the feature levels at that size.
        effort: how long to measure.
        progress: called before each step.
        keep: called after each case with everything found so far.
    """
    outcome = Outcome()
    bystanders, own = Bystanders(), _own_seconds()
    workers = {label(spec): RemoteWorker(spec, cases[0].size) for spec in specs}
    steps = effort.rounds + 1
    try:
        for number, case in enumerate(cases):

            def step(what: str, done: int, at: int = number, case: Case = case) -> None:
                progress(f"{case}: {what}", at * steps + done, len(cases) * steps)

            _Race(outcome, workers, case, grids, effort).run(step)
            keep(outcome)
    finally:
        for worker in workers.values():
            worker.close()
    outcome.bystanders = bystanders.share(_own_seconds() - own)
    return outcome


class _Race:
    """The race in one case."""

    def __init__(
        self,
        outcome: Outcome,
        workers: dict[str, RemoteWorker],
        case: Case,
        grids: Sequence[Grid],
        effort: Effort,
    ) -> None:
        self.outcome, self.workers, self.case, self.effort = outcome, workers, case, effort
        self.inputs = draw_inputs(case, grids)
        self.times: dict[tuple[str, str, str], list[list[float]]] = {}
        self.answers: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.joules: dict[str, list[float]] = {}  # [joules, queries] of the throughput turns

    def run(self, progress: Callable[[str, int], None]) -> None:
        progress("warming up", 0)
        limit = float("inf")
        for name, worker in list(self.workers.items()):
            if not self._plays(worker.spec):
                continue
            seconds = self._ask(name, "prepare", self.inputs)
            if seconds is None:
                continue
            if worker.spec.name == BASELINE:
                limit = SLOW * seconds
            elif seconds > limit:
                self._refuse(
                    name,
                    f"an episode takes {seconds:.2f} s, {SLOW * seconds / limit:.0f} times what "
                    f"{BASELINE} takes",
                )
                continue
            answer = self._ask(name, "answer")
            if answer is not None:
                self.answers[name] = answer
                self.outcome.facts[name] = self._ask(name, "facts") or {}
        shuffle = random.Random(0)
        for number in range(self.effort.rounds):
            progress(f"round {number + 1} of {self.effort.rounds}", number + 1)
            turns = self._turns()
            shuffle.shuffle(turns)
            for name, workload, mode in turns:
                time.sleep(_SETTLE_S)
                found = self._turn(name, workload, mode)
                if found:
                    self.times.setdefault((name, workload, mode), []).append(found)
        self._conclude()

    def _turns(self) -> list[tuple[str, str, str]]:
        """Without a cache, a stream costs as much as episodes, so only episodes are timed."""
        return [
            (name, workload, mode)
            for name, worker in self.workers.items()
            if self._plays(worker.spec)
            for workload, mode in MODES
            if (workload, mode) != ("stream", "latency") or worker.spec.caches
            if mode == "latency" or self._streams(worker.spec)
        ]

    def _plays(self, spec: Spec) -> bool:
        """Whether a contender is timed in this case.

        Without a cache, K shots are K times the same forward pass: the baseline shows what that
        costs, and its variants are timed at one shot only.
        """
        repeats = spec.kind == "torch" and not spec.caches and spec.name != BASELINE
        return not repeats or self.case.shots == 1

    def _streams(self, spec: Spec) -> bool:
        """PyTorch's variants all stream with the same loop, so only two of them are timed."""
        shown = spec.kind == "bundle" or spec.caches or spec.name == BASELINE
        return shown and (self.case.batch, self.case.shots) == (1, 1)

    def _turn(self, name: str, workload: str, mode: str) -> list[float] | None:
        effort = self.effort
        if mode == "latency":
            found: list[float] | None = self._ask(
                name, "latency", workload, effort.seconds, effort.least
            )
            return found
        with EnergyMeter() as meter:
            streamed = self._ask(name, "throughput", effort.seconds, max(2, effort.least))
        if streamed is None:
            return None
        if meter.joules is not None:
            self.outcome.energy_source = meter.source
            total = self.joules.setdefault(name, [0.0, 0.0])
            total[0] += meter.joules
            total[1] += streamed["frames"]
        intervals: list[float] = streamed["intervals"]
        return intervals

    def _ask(self, name: str, method: str, *arguments: Any) -> Any:
        """A worker's answer; None if it failed, which removes it from the race."""
        if name not in self.workers:
            return None
        try:
            return self.workers[name].call(method, *arguments)
        except HSNetError as error:
            self._refuse(name, error.found or str(error))
            return None

    def _refuse(self, name: str, why: str) -> None:
        self.outcome.refused[name] = f"{self.case}: {why}"
        self.workers.pop(name).close()
        for key in [key for key in self.times if key[0] == name]:
            del self.times[key]

    def _conclude(self) -> None:
        for name, worker in self.workers.items():
            if not worker.spec.caches and (name, "episode", "latency") in self.times:
                self.times[name, "stream", "latency"] = self.times[name, "episode", "latency"]
        figures = {key: summarise(rounds) for key, rounds in self.times.items()}
        reference = next((n for n, w in self.workers.items() if w.spec.name == BASELINE), "")
        for name, worker in list(self.workers.items()):
            if not self._plays(worker.spec):
                continue
            memory = self._ask(name, "memory") or {}
            scores, masks = self._differences(name, reference)
            if worker.spec.precision == "fp32" and scores is not None and not scores <= TOLERANCE:
                self.outcome.wrong.append(
                    f"{name} in {self.case}: scores differ from {reference}'s by {scores:.2e}, "
                    f"more than {TOLERANCE:.0e}"
                )
            for workload, mode in MODES:
                times = figures.get((name, workload, mode))
                if times is None:
                    continue
                base = figures.get((reference, workload, mode))
                joules, queries = self.joules.get(name, [0.0, 0.0])
                self.outcome.rows.append(
                    SpeedRow(
                        case=self.case,
                        contender=worker.spec.name,
                        precision=worker.spec.precision,
                        workload=workload,
                        mode=mode,
                        times=times,
                        per_second=1000 * self.case.batch / times.median,
                        speedup=None if base is None else ratio(base.rounds, times.rounds),
                        host_bytes=memory.get("host_bytes"),
                        device_bytes=memory.get("device_bytes"),
                        joules=joules / queries if queries and mode == "throughput" else None,
                        score_difference=scores,
                        mask_difference=masks,
                    )
                )

    def _differences(self, name: str, reference: str) -> tuple[float | None, float | None]:
        if name not in self.answers or reference not in self.answers:
            return None, None
        (scores, masks), (right, right_masks) = self.answers[name], self.answers[reference]
        return float(np.abs(scores - right).max()), float((masks != right_masks).mean())


def _own_seconds() -> float:
    """Processor time of this process and of its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)
