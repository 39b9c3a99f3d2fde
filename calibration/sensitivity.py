"""Sensitivity to INT8: the loss with one layer or one block quantised alone, the worst first."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from hsnet_trt.calibration.collect import Progress
from hsnet_trt.calibration.judge import Cost, Judge
from hsnet_trt.calibration.placement import Layer


@dataclasses.dataclass(frozen=True)
class Entry:
    """The cost if one layer, or one block, alone is INT8.

    Attributes:
        name: of the layer or block.
        block: the block of the layer; for a block, its own name.
        graph: features or match.
        layers: number of layers.
        weights: number of weight elements.
        cost: see `judge.Cost`.
    """

    name: str
    block: str
    graph: str
    layers: int
    weights: int
    cost: Cost


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """A ranking. Both lists are sorted by the logits' SQNR, the most sensitive first."""

    data: str
    method: str
    everything: Cost  # all layers INT8
    layers: tuple[Entry, ...]
    blocks: tuple[Entry, ...]


def rank(
    judge: Judge,
    data: str,
    *,
    blocks: bool = True,
    progress: Progress = lambda what, done, total: None,
) -> Sensitivity:
    """Quantise each layer alone, then each block alone, and measure the loss.

    The ranking is by the logits' SQNR: mIoU on a few dozen episodes is too noisy.

    Args:
        judge: measures the cost on its episodes.
        data: name of the episodes, to be stored.
        blocks: measure the blocks too.
        progress: called before each measurement.
    """
    layers = all_layers(judge)
    grouped: dict[str, list[Layer]] = {}
    for layer in layers:
        grouped.setdefault(layer.block, []).append(layer)
    tasks: list[tuple[str, str, list[Layer]]] = [(x.name, x.block, [x]) for x in layers]
    if blocks:
        tasks += [(name, name, members) for name, members in grouped.items()]
    entries = []
    for number, (name, block, members) in enumerate(tasks):
        progress(name, number, len(tasks) + 1)
        weights = sum(layer.weights for layer in members)
        cost = judge.cost(members)
        entries.append(Entry(name, block, members[0].graph, len(members), weights, cost))
    progress("everything", len(tasks), len(tasks) + 1)
    return Sensitivity(
        data=data,
        method=judge.table.method,
        everything=judge.cost(layers),
        layers=_ranked(entries[: len(layers)]),
        blocks=_ranked(entries[len(layers) :]),
    )


def all_layers(judge: Judge) -> list[Layer]:
    """Every layer that can be INT8: those of `features`, then those of `match`."""
    return [layer for p in judge.subject.placements.values() for layer in p.layers]


def write(sensitivity: Sensitivity, folder: str | os.PathLike[str]) -> None:
    """Write `sensitivity.json`, `sensitivity.md` and `sensitivity.png` into a folder."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    data = json.dumps(_finite(dataclasses.asdict(sensitivity)), indent=1)
    (place / "sensitivity.json").write_text(data + "\n", encoding="utf-8")
    (place / "sensitivity.md").write_text(markdown(sensitivity), encoding="utf-8")
    plot(sensitivity, place / "sensitivity.png")


def markdown(sensitivity: Sensitivity) -> str:
    """The ranking as Markdown tables."""
    every = sensitivity.everything
    lines = [
        f"INT8, {sensitivity.method} ranges, {every.episodes} episodes of {sensitivity.data}: "
        f"mIoU {every.miou:.2f} against {every.miou_fp32:.2f} in FP32, "
        f"{100 * every.changed:.2f} % of the pixels changed, logits' SQNR {_db(every.sqnr)} dB.",
        "",
    ]
    for title, entries in (("block", sensitivity.blocks), ("layer", sensitivity.layers)):
        if entries:
            lines += [f"| {title}, INT8 alone | graph | SQNR, dB | mIoU | changed, % |"]
            lines += ["|---|---|---:|---:|---:|"]
            lines += [
                f"| `{e.name}` | {e.graph} | {_db(e.cost.sqnr)} | {-e.cost.points:+.2f} | "
                f"{100 * e.cost.changed:.3f} |"
                for e in entries
            ]
            lines.append("")
    return "\n".join(lines)


def plot(sensitivity: Sensitivity, path: str | os.PathLike[str]) -> None:
    """Draw a bar per block, and per layer for the 30 most sensitive: a low SQNR is a large loss."""
    from matplotlib.figure import Figure

    shown = [("blocks", sensitivity.blocks), ("the most sensitive layers", sensitivity.layers[:30])]
    shown = [(title, entries) for title, entries in shown if entries]
    tall = max(len(entries) for _, entries in shown)
    figure = Figure(figsize=(5.5 * len(shown), 1.2 + 0.2 * tall), layout="constrained")
    for place, (title, entries) in enumerate(shown, start=1):
        axes = figure.add_subplot(1, len(shown), place)
        colours = ["#4878a8" if e.graph == "features" else "#d08030" for e in entries]
        heights = [min(e.cost.sqnr, 99.0) for e in entries]
        axes.barh(range(len(entries)), heights, color=colours)
        axes.axvline(sensitivity.everything.sqnr, color="black", linestyle=":", linewidth=1)
        axes.set_yticks(range(len(entries)), [e.name for e in entries], fontsize=7)
        axes.invert_yaxis()
        axes.set_xlabel("SQNR of the logits, dB, if it alone is INT8")
        axes.set_title(title, fontsize=9)
    figure.suptitle(
        "blue: features, orange: match, dotted: everything INT8", fontsize=8, color="#444444"
    )
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _ranked(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.cost.sqnr))


def _db(sqnr: float) -> str:
    return "exact" if math.isinf(sqnr) else f"{sqnr:.1f}"


def _finite(data: object) -> object:
    """Replace infinity, which JSON lacks, by None."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and math.isinf(data) else data
