"""INT8 within an accuracy budget: the most sensitive layers stay float until the loss fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from hsnet_trt.calibration.judge import Cost, Judge
from hsnet_trt.calibration.placement import Layer
from hsnet_trt.calibration.sensitivity import all_layers
from hsnet_trt.errors import InputError

_MOST_FLOAT = 0.5  # share of the layers; with more layers float, FP16 is the better engine


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One evaluation of the search: how many sensitive layers stayed float, and the cost."""

    kept: int
    cost: Cost


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The result of the search.

    Attributes:
        layers: the INT8 layers.
        kept: names of the layers that stay float, the most sensitive first.
        cost: of this choice; None if nothing was judged.
        path: every evaluation, in order.
    """

    layers: tuple[Layer, ...]
    kept: tuple[str, ...]
    cost: Cost | None
    path: tuple[Attempt, ...]


def fit_budget(
    judge: Judge,
    budget: float | None,
    ranking: Callable[[], Sequence[str]],
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
) -> Chosen:
    """Find how few of the most sensitive layers must stay float.

    The number is doubled until the budget holds, then bisected: about 2 log2(n) evaluations.

    Args:
        judge: measures the cost on its episodes.
        budget: points of mIoU that may be lost; None makes every layer INT8, whatever it costs.
        ranking: returns names of layers, the most sensitive first; called only if needed.
        on_attempt: called after each evaluation.

    Raises:
        InputError: the budget does not hold even with half of the layers float; the message names
            the best result.
    """
    layers = all_layers(judge)
    path: list[Attempt] = []
    names: list[str] = []

    def attempt(kept: int) -> bool:
        out = set(names[:kept])
        path.append(Attempt(kept, judge.cost([x for x in layers if x.name not in out])))
        on_attempt(path[-1])
        return budget is None or path[-1].cost.points <= budget

    if not attempt(0):
        known = {layer.name for layer in layers}
        names = [name for name in ranking() if name in known]
        most = min(int(len(layers) * _MOST_FLOAT), len(names))
        low, high = 0, 1
        while high <= most and not attempt(high):
            low, high = high, (min(2 * high, most) if high < most else most + 1)
        if high > most:
            _refuse(path, budget, names)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if attempt(middle) else (middle, high)
    best = min((a for a in path if budget is None or a.cost.points <= budget), key=lambda a: a.kept)
    kept = tuple(names[: best.kept])
    chosen = tuple(layer for layer in layers if layer.name not in kept)
    return Chosen(chosen, kept, best.cost, tuple(path))


def _refuse(path: Sequence[Attempt], budget: float | None, names: Sequence[str]) -> None:
    best = min(path, key=lambda a: a.cost.points)
    raise InputError(
        f"INT8 does not stay within {budget:g} points of mIoU",
        expected=f"at most {budget:g} points below {best.cost.miou_fp32:.2f}, "
        f"on {best.cost.episodes} episodes",
        found=f"at best {best.cost.points:.2f} points, with {best.kept} layers float "
        f"({', '.join(names[: min(best.kept, 4)])}{', ...' if best.kept > 4 else ''}); "
        + ", ".join(f"{a.kept} float: {a.cost.points:.2f}" for a in path),
        fix="allow more, calibrate on more episodes or by another --method, or use FP16",
    )
