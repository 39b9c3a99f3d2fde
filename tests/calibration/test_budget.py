from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest
from helpers.data_sets.blob_episodes import BLOBS, few_layers
from hypothesis import given
from hypothesis import strategies as st

from hsnet_trt.calibration.budget import fit_budget
from hsnet_trt.calibration.collect import some_object
from hsnet_trt.calibration.judge import Cost, Judge
from hsnet_trt.calibration.placement import Layer, QDQPlacement
from hsnet_trt.calibration.sensitivity import markdown, rank, write
from hsnet_trt.errors import InputError


class Sums:
    """A judge for whom each layer costs what it is said to, added up."""

    def __init__(self, costs: dict[str, float]) -> None:
        layers = [Layer(name, "b", "match", "Conv", (name,), ()) for name in costs]
        self.subject = SimpleNamespace(placements={"match": QDQPlacement("match", layers)})
        self.costs, self.asked = costs, 0

    def cost(self, layers) -> Cost:
        self.asked += 1
        return Cost(60 - sum(self.costs[x.name] for x in layers), 60.0, 0.0, 20.0, 10)


@given(st.lists(st.integers(1, 100), min_size=4, max_size=60), st.integers(0, 100))
def test_the_fewest_layers_that_keep_the_budget(costs, percent):
    judge = Sums({f"n{i}": float(cost) for i, cost in enumerate(costs)})
    order = sorted(judge.costs, key=lambda name: -judge.costs[name])
    losses = [sum(judge.costs[name] for name in order[kept:]) for kept in range(len(order) + 1)]
    budget = sum(costs) * percent / 100
    fitting = [k for k in range(len(order) // 2 + 1) if losses[k] <= budget]
    if not fitting:
        with pytest.raises(InputError, match="does not stay within") as caught:
            fit_budget(judge, budget, lambda: order)
        assert f"{losses[len(order) // 2]:.2f} points" in str(caught.value)
        return
    chosen = fit_budget(judge, budget, lambda: order)
    assert len(chosen.kept) == fitting[0]
    assert chosen.kept == tuple(order[: fitting[0]])
    assert chosen.cost.points <= budget + 1e-9
    assert judge.asked == len(chosen.path) <= 2 + 2 * math.ceil(math.log2(len(order) + 1))


def test_a_budget_that_holds_at_once_ranks_nothing():
    def never():
        raise AssertionError

    chosen = fit_budget(Sums({"a": 0.1, "b": 0.1}), 1.0, never)
    assert (chosen.kept, len(chosen.path)) == ((), 1)
    assert fit_budget(Sums({"a": 50.0}), None, never).cost.points == 50


def test_a_gain_is_within_every_budget():
    assert fit_budget(Sums({"a": -0.5}), 0.0, list).cost.points == -0.5


def test_judging_and_ranking(subject, table, tmp_path):
    """One layer alone, all, and none; independent of each other and of the order."""
    names = {"layer1.0.conv1", "squeeze2.second.conv1", "correlation3"}
    few_layers(subject, names)
    judge = Judge(subject, table, some_object(BLOBS, 3), dict(BLOBS.classes))
    assert len(judge) == 3
    nothing = judge.cost([])
    assert (nothing.points, nothing.changed, nothing.sqnr) == (0, 0, math.inf)
    seen: list[str] = []
    found = rank(judge, "blobs", progress=lambda what, done, total: seen.append(what))
    assert {entry.name for entry in found.layers} == names
    assert {entry.name for entry in found.blocks} == {"layer1.0", "squeeze2", "correlation"}
    ratios = [entry.cost.sqnr for entry in found.layers]
    assert ratios == sorted(ratios)
    assert all(math.isfinite(ratio) and ratio > 5 for ratio in ratios)
    assert found.everything.sqnr < ratios[0] + 1
    assert seen[-1] == "everything"
    coarse = dataclasses.replace(
        table,
        ranges={
            graph: {
                name: dataclasses.replace(r, thresholds={m: 8 * t for m, t in r.thresholds.items()})
                for name, r in ranges.items()
            }
            for graph, ranges in table.ranges.items()
        },
    )
    judge.table = coarse
    worse = judge.cost([x for p in subject.placements.values() for x in p.layers])
    assert worse.sqnr < found.everything.sqnr - 6  # steps eight times as wide
    write(found, tmp_path / "out")
    assert (tmp_path / "out" / "sensitivity.png").read_bytes()[:4] == b"\x89PNG"
    text = (tmp_path / "out" / "sensitivity.md").read_text()
    assert text == markdown(found)
    assert all(f"`{name}`" in text for name in names)
