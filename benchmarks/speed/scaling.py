"""Whether cost grows faster than the work: with shots, classes, and pairs of positions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from hsnet_trt.benchmarks.limits.case import Case, draw_inputs
from hsnet_trt.benchmarks.speed.contenders import Spec
from hsnet_trt.benchmarks.speed.timing_stats import summarise
from hsnet_trt.benchmarks.speed.worker import RemoteWorker
from hsnet_trt.model.hsnet import HSNet

SLACK = 1.10  # over linear growth, for noise in the timing
MANY_CLASSES, MANY_BYTES = 50, 4e9  # this many registered classes should fit in this memory
_ROUNDS = 3


@dataclass(frozen=True)
class Scale:
    """The cost at one value of one growing quantity."""

    what: str  # shots | classes | pairs of positions
    case: Case
    times: float  # quantity relative to the first case
    milliseconds: float  # of a query, with supports registered
    growth: float  # milliseconds relative to the first case
    host_bytes: int | None  # of the whole process

    @property
    def linear(self) -> bool:
        """Whether the cost grew no faster than the quantity."""
        return self.growth <= SLACK * self.times


def steps(backbone: str, sizes: Sequence[tuple[int, int]]) -> dict[str, list[Case]]:
    """The cases of each quantity, from few to many."""
    first = Case(backbone, sizes[0])
    found = {
        "shots": [dataclasses.replace(first, shots=n) for n in (1, 2, 5)],
        "classes": [dataclasses.replace(first, classes=n) for n in (1, 5, MANY_CLASSES)],
    }
    by_area = sorted(sizes, key=prod)
    if len(by_area) > 1:
        found["pairs of positions"] = [dataclasses.replace(first, size=size) for size in by_area]
    return found


def measure(
    spec: Spec,
    sizes: Sequence[tuple[int, int]],
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[Scale]:
    """Measure one contender.

    Args:
        spec: of a bundle.
        sizes: of the bundle, the default one first.
        progress: called before each case.

    Raises:
        HSNetError: it cannot run here.
    """
    found: list[Scale] = []
    plan = steps(spec.backbone, sizes)
    total, done = sum(map(len, plan.values())), 0
    for what, cases in plan.items():
        base: tuple[float, float] | None = None
        for case in cases:
            progress(f"{what}: {case}", done, total)
            done += 1
            # Each case gets its own process, or memory of one would be counted for the next.
            worker = RemoteWorker(spec, case.size)
            try:
                grids = HSNet(spec.backbone).grids(case.size)
                worker.call("prepare", draw_inputs(case, grids))
                rounds = [worker.call("latency", "stream", 0.3, 1) for _ in range(_ROUNDS)]
                memory = worker.call("memory")["host_bytes"]
            finally:
                worker.close()
            amount = _amount(what, case, grids)
            median = summarise(rounds).median
            base = base or (amount, median)
            found.append(Scale(what, case, amount / base[0], median, median / base[1], memory))
    return found


def summary(found: Sequence[Scale]) -> list[str]:
    """Whether the figures support the two claims, as text."""
    lines = []
    for what in dict.fromkeys(scale.what for scale in found):
        last = [scale for scale in found if scale.what == what][-1]
        verdict = "no faster than linearly" if last.linear else "FASTER than linearly"
        lines.append(
            f"cost grows {verdict} in {what}: {last.times:.3g} times as many take "
            f"{last.growth:.3g} times as long"
        )
    for scale in found:
        if scale.case.classes == MANY_CLASSES and scale.host_bytes is not None:
            verdict = "fit" if scale.host_bytes <= MANY_BYTES else "do NOT fit"
            lines.append(
                f"{MANY_CLASSES} registered classes {verdict} in {MANY_BYTES / 1e9:g} GB: the "
                f"process takes {scale.host_bytes / 1e9:.2f} GB"
            )
    return lines


def _amount(what: str, case: Case, grids: Sequence[tuple[int, int]]) -> float:
    """The growing quantity; pairs of positions are summed over the levels."""
    if what == "pairs of positions":
        return float(sum(prod(grid) ** 2 for grid in grids))
    return float(case.shots * case.classes)
