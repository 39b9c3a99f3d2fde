"""Predict the time of the correlation kernel on an H100, calibrated on measured earlier kernels.

``python -m hsnet_trt.benchmarks.limits.plugin_prediction`` prints a table; it needs no GPU. The
model's seven constants are fitted to the times of the *correlate* kernels of revision 6c4d0ab
(``benchmarks/results/h100-plugin.json``); the model is then applied to the current kernel.

A block runs through steps of channels and then through windows of results. Its work is what it
issues and moves (instructions of its warps, wavefronts of shared memory, sectors of stores); its
latency is the waiting at each step and window. Blocks on a multiprocessor hide each other's
latency, not each other's work; when a block ends, a new one starts. No launch is faster than its
bytes at the rate of a large copy.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hsnet_trt.benchmarks.limits.plugin_blocks import (
    EARLIER_FORMS,
    FORMS,
    MULTIPROCESSORS,
    Case,
    Parts,
    case,
)
from hsnet_trt.trt_plugins.occupancy import level_plan

EARLIER = Path(__file__).resolve().parents[1] / "results" / "h100-plugin.json"
CLOCK = 1.755e6  # cycles per millisecond, H100 SXM at its boost clock
SCHEDULERS = 4  # per multiprocessor


@dataclass(frozen=True)
class Constants:
    """The fitted constants, in cycles, except for `launch` and `slow`.

    Args:
        issue: of an instruction of a warp, on its scheduler.
        wavefront: of a wavefront of shared memory, or a sector of a store, on the multiprocessor.
        step, window, block: latency of a step, of a window and of a block.
        launch: milliseconds.
        slow: factor on ``issue`` for instructions of the earlier epilogue (divergent stores).
    """

    issue: float = 1.27
    wavefront: float = 0.4
    step: float = 215.0
    window: float = 3000.0
    block: float = 2000.0
    launch: float = 0.003
    slow: float = 1.0


def _work(parts: Parts, launch: Case, c: Constants) -> tuple[float, float]:
    """Cycles of a multiprocessor: for a block's instructions, and for the data it moves."""
    form = parts.form or launch.form
    warps = form.warps / SCHEDULERS
    # A warp's copy is four wavefronts, or ten if its second row starts within a sector.
    moved = form.copies * (10 if launch.shifted else 4) + form.reads
    rest = parts.instructions * (c.slow if form.earlier else 1.0)
    issued = c.issue * warps * (parts.steps * form.loop + rest)
    return issued, c.wavefront * (parts.steps * moved + parts.sectors)


def _alone(parts: Parts, launch: Case, c: Constants) -> tuple[float, float]:
    """Cycles of a block that has a multiprocessor to itself, and how many of them are work."""
    work = sum(_work(parts, launch, c))
    waits = parts.steps * c.step + parts.windows * c.window
    return work + waits + (c.block if parts.steps else c.block / 4), work


def predict(launch: Case, c: Constants, rate: float) -> float:
    """Milliseconds of a launch on a card that copies ``rate`` bytes per second."""
    found = {parts: _alone(parts, launch, c) for parts in set(launch.blocks)}
    queue = [found[parts] for parts in launch.blocks][::-1]
    alive: list[list[list[float]]] = [[] for _ in range(MULTIPROCESSORS)]
    clock = [0.0] * MULTIPROCESSORS
    ends: list[tuple[float, int, float]] = []

    def begin(at: int) -> None:
        if queue:
            alone, work = queue.pop()
            alive[at].append([alone, work / alone])

    def follow(at: int) -> None:
        if alive[at]:
            stretch = max(1.0, sum(share for _, share in alive[at]))
            soonest = min(left for left, _ in alive[at])
            heapq.heappush(ends, (clock[at] + soonest * stretch, at, stretch))

    for _ in range(launch.form.resident):  # one for each multiprocessor, then the next for each
        for at in range(MULTIPROCESSORS):
            begin(at)
    for at in range(MULTIPROCESSORS):
        follow(at)
    now = 0.0
    while ends:
        now, at, stretch = heapq.heappop(ends)
        passed, clock[at] = (now - clock[at]) / stretch, now
        alive[at] = [[left - passed, share] for left, share in alive[at] if left - passed > 1e-6]
        for _ in range(launch.form.resident - len(alive[at])):
            begin(at)
        follow(at)
    return c.launch + max(now / CLOCK, launch.bytes / rate * 1e3)


def shares(launch: Case, time: float, c: Constants) -> tuple[float, float]:
    """The shares of the card's time that instructions take, and that data movement takes."""
    found = np.array([_work(parts, launch, c) for parts in launch.blocks]).sum(axis=0)
    issued, moved = found / (MULTIPROCESSORS * CLOCK * time)
    return float(issued), float(moved)


def measured() -> list[tuple[Case, float, float, bool]]:
    """Launches of the earlier kernels: (case, milliseconds, bytes per second, form was chosen)."""
    timing = json.loads(EARLIER.read_text(encoding="utf-8"))["timing"]
    found = []
    for row in timing["rows"]:
        area = None if row["area"] in ("no mask", "100%") else float(row["area"][:-1]) / 100
        for name, time in row["kernels_ms"].items():
            if "correlate" in name and row["area"] != "100%":
                form = name.split("correlate_")[1]
                size = 2 if row["dtype"] == "float16" else 4
                rate = timing["rates"][row["dtype"]]["copy_bytes_per_s"]
                chosen = not name.startswith("(")
                launch = case(row["level"], area, size, EARLIER_FORMS[form])
                found.append((launch, time, rate, chosen))
    return found


def fit(rows: Sequence[tuple[Case, float, float, bool]]) -> tuple[Constants, NDArray[np.float64]]:
    """The fitted constants, and each row's log error in a fit without that row.

    Gauss-Newton on logarithms; leaving a row out means one more step without it.
    """
    names = [field.name for field in fields(Constants)]
    logs = np.log([getattr(Constants(), name) for name in names])
    wanted = np.log([row[1] for row in rows])
    steps = 0.05 * np.eye(len(names))  # large, because the prediction is not smooth

    def predict_row(at: NDArray[np.float64], index: int) -> float:
        launch, _, rate, _ = rows[index]
        return float(np.log(predict(launch, Constants(*np.exp(at).tolist()), rate)))

    def predict_all(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([predict_row(at, index) for index in range(len(rows))])

    def step(slope: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
        held = slope.T @ slope + 1e-2 * np.eye(len(names))
        return np.clip(np.linalg.solve(held, slope.T @ error), -0.5, 0.5)

    best = (np.inf, logs, wanted, steps)
    for _ in range(8):
        now = predict_all(logs)
        slope = np.stack([(predict_all(logs + by) - now) / 0.05 for by in steps], axis=1)
        best = min(best, (float(np.sum((wanted - now) ** 2)), logs, now, slope), key=lambda b: b[0])
        logs = logs + step(slope, wanted - now)
    _, logs, now, slope = best
    left_out = []
    for index in range(len(rows)):
        others = np.arange(len(rows)) != index
        without = logs + step(slope[others], (wanted - now)[others])
        left_out.append(predict_row(without, index) - wanted[index])
    return Constants(*np.exp(logs).tolist()), np.array(left_out)


def table(c: Constants) -> str:
    """A Markdown table: every type and level, with and without a mask, and what takes the time."""
    timing = json.loads(EARLIER.read_text(encoding="utf-8"))["timing"]
    lines = [
        "| type | level | mask | kernel | predicted ms | native ms, measured | times faster "
        "| instructions | shared memory, stores | waiting, uneven | blocks that multiply "
        "| byte floor ms |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in timing["rows"]:
        if row["area"] not in ("no mask", "20%"):
            continue
        size, suffix = (2, "f16") if row["dtype"] == "float16" else (4, "f32")
        level = int(row["level"][-1])
        name = f"{level_plan(level, size).tiles(MULTIPROCESSORS)}_{suffix}"
        launch = case(row["level"], None if row["area"] == "no mask" else 0.2, size, FORMS[name])
        rate = timing["rates"][row["dtype"]]["copy_bytes_per_s"]
        time = predict(launch, c, rate)
        issued, moved = shares(launch, time, c)
        multiply = sum(parts.steps > 0 for parts in launch.blocks)
        cells = [
            "FP16" if size == 2 else "FP32",
            str(level),
            "none" if row["area"] == "no mask" else "20 %",
            name,
            f"{time:.3f}",
            f"{row['native_ms']:.3f}",
            f"{row['native_ms'] / time:.1f}",
            *(f"{share:.0%}" for share in (issued, moved, 1 - issued - moved)),
            str(multiply),
            f"{launch.bytes / rate * 1e3:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    rows = measured()
    constants, errors = fit(rows)
    chosen = errors[[row[3] for row in rows]]
    print(f"{constants}\n")
    for name, found in (("all", errors), ("those the plugin chose", chosen)):
        print(
            f"error of a row left out, {name} ({len(found)}): root mean square "
            f"{np.sqrt(np.mean(found**2)):.1%}, largest {np.abs(found).max():.1%}"
        )
    print(f"\n{table(constants)}")


if __name__ == "__main__":
    _main()
