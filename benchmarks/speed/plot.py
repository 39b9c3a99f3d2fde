"""The picture of a record: bars of the time per query, and the machine's roofline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hsnet_trt.benchmarks.limits.case import Case
from hsnet_trt.benchmarks.speed.race import SpeedRow
from hsnet_trt.benchmarks.speed.record import Record

_OURS, _THEIRS = "#1b7f5a", "#9aa3ad"
_INK = "0.25"


def draw(record: Record, path: Path) -> None:
    """Write a PNG: bars for the first case and one with more shots, and the roofline on the right.

    Args:
        record: with at least one row of latency.
        path: the file.
    """
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(row.case for row in record.rows))
    few = cases[0]
    many = next((case for case in cases if case.shots > few.shots and case.area == few.area), None)
    shown = [case for case in (few, many) if case is not None]
    figure = Figure(figsize=(5 * len(shown) + 5.5, 5.4), layout="constrained")
    axes = figure.subplots(1, len(shown) + 1)
    for axis, case in zip(axes, shown, strict=False):
        _bars(axis, _latency(record, case), str(case))
    _roof(axes[-1], record, _latency(record, few))
    machine = record.machine
    where = machine["gpus"][0] if machine["gpus"] else f"{machine['cpu']}, {machine['cores']} cores"
    words = [f"{where}, {machine['date'][:10]}, revision {machine['revision']}"]
    words += [warning for warning in record.warnings if "noisy" not in warning]
    figure.supxlabel(" · ".join(words), fontsize=9, color="0.35")
    figure.savefig(path, dpi=110)


def _latency(record: Record, case: Case) -> list[SpeedRow]:
    return [row for row in record.rows if row.case == case and row.mode == "latency"]


def _bars(axis: Any, rows: Sequence[SpeedRow], title: str) -> None:
    names = list(dict.fromkeys(f"{r.contender}\n{r.precision}" for r in rows))
    found = {(f"{r.contender}\n{r.precision}", r.workload): r for r in rows}
    names.sort(key=lambda name: -found[name, "stream"].times.median)
    for offset, workload, alpha in ((0.2, "episode", 0.45), (-0.2, "stream", 1.0)):
        for place, name in enumerate(names):
            row = found.get((name, workload))
            if row is None:
                continue
            t = row.times
            ours = not row.contender.startswith("PyTorch")
            axis.barh(
                len(names) - place + offset,
                t.median,
                0.38,
                color=_OURS if ours else _THEIRS,
                alpha=alpha,
                xerr=[[0], [max(0.0, t.p90 - t.median)]],
                error_kw={"ecolor": _INK, "lw": 0.8},
            )
            faster = "" if row.speedup is None else f"  {row.speedup.median:.1f}x"
            mark = "~" if t.noisy else ""
            axis.text(
                max(t.p90, t.median),
                len(names) - place + offset,
                f" {mark}{t.median:.0f} ms{faster}",
                va="center",
                fontsize=8,
                color=_INK,
            )
    axis.set_yticks(range(len(names), 0, -1), names, fontsize=8)
    axis.set_xlim(0, 1.35 * max(max(r.times.p90, r.times.median) for r in rows))
    axis.set_xlabel("ms, median and p90 (dark: a query, support registered; light: an episode)")
    axis.xaxis.label.set_size(8)
    axis.set_title(title, fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)


def _roof(axis: Any, record: Record, rows: Sequence[SpeedRow]) -> None:
    """Operations per byte against operations per second, both logarithmic."""
    copy = record.rates.get("copy")
    kinds = {k: v for k, v in record.rates.items() if k != "copy" and _used(k, rows)}
    if not copy or not kinds:
        axis.set_axis_off()
        return
    intensity = np.logspace(-1, 3.5, 200)
    for kind, rate in kinds.items():
        axis.loglog(intensity, np.minimum(rate, intensity * copy) / 1e9, color="0.6", lw=1.2)
        axis.text(
            intensity[-1],
            rate / 1e9,
            f"{kind} GEMM {rate / 1e9:.0f}",
            fontsize=8,
            color=_INK,
            ha="right",
            va="bottom",
        )
    axis.text(0.15, 0.17 * copy / 1e9, f"copy {copy / 1e9:.0f} GB/s", fontsize=8, color=_INK)
    label = 0.0  # height of the previous label
    for row in sorted(rows, key=lambda r: -r.times.median):
        roof = row.roofline
        if roof is None or row.workload != "stream":
            continue
        ours = not row.contender.startswith("PyTorch")
        x, y = roof.flops / roof.moved_bytes, roof.flops / row.times.median / 1e6
        label = max(y, 1.16 * label)
        axis.plot(x, y, "o", color=_OURS if ours else _THEIRS, ms=7, zorder=3)
        axis.annotate(
            f"{row.contender} {row.precision}: {roof.reached:.0%}",
            (x, y),
            (1.5 * x, label),
            va="center",
            fontsize=7.5,
            color=_INK,
            arrowprops={"arrowstyle": "-", "color": "0.8"},
        )
    axis.set_xlabel("operations per byte moved, if nothing is fused", fontsize=8)
    axis.set_ylabel("G operations per second (useful ones)", fontsize=8)
    axis.set_title("roofline, a query (percent: of the attainable)", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)


def _used(kind: str, rows: Sequence[SpeedRow]) -> bool:
    return any(row.precision == kind for row in rows)
