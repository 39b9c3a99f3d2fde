"""The whole network of a bundle against PyTorch: one query, with supports registered before.

Every contender has its own process (`speed.worker`). All load, compile and warm up at the same
time, but are timed one after the other.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from typing import Any

import numpy as np

from hsnet_trt.benchmarks.limits.case import Case, Inputs, draw_inputs
from hsnet_trt.benchmarks.speed.contenders import BASELINE, Spec
from hsnet_trt.benchmarks.speed.worker import RemoteWorker
from hsnet_trt.export.graphs.probe import smooth_picture

OURS = "this bundle"
COMPILED = "PyTorch compile"
FRAME = (720, 1280)  # height and width of the queries


@dataclasses.dataclass(frozen=True)
class Pace:
    """How long each figure is measured.

    Attributes:
        seconds: per figure.
        least: least number of calls or frames.
    """

    seconds: float
    least: int


def contenders(
    bundle: str, backbone: str, backend: str, device: str, precisions: tuple[str, ...]
) -> list[Spec]:
    """The bundle in each precision, and PyTorch eager, with autocast, and compiled.

    PyTorch has random weights, because speed does not depend on them. On a CPU its half precision
    is BF16, as FP16 there is twenty times slower than FP32, and nothing is compiled, as that would
    take minutes.
    """
    half = "bf16" if device == "cpu" else "fp16"
    ours = [Spec(OURS, p, "bundle", True, bundle=bundle, backend=backend) for p in precisions]
    torch = [
        Spec(BASELINE, "fp32", "torch", False, backbone, device=device),
        Spec("PyTorch autocast", half, "torch", False, backbone, device=device),
    ]
    if device != "cpu":
        torch.append(Spec(COMPILED, half, "torch", False, backbone, device=device, compiled=True))
    return ours + torch


def frames_of(case: Case, grids: Sequence[tuple[int, int]]) -> Inputs:
    """Supports of the network's size, and queries of a camera's size (`FRAME`)."""
    drawn, rng = draw_inputs(case, grids), np.random.RandomState(3)
    return Inputs([[smooth_picture(rng, FRAME)] for _ in drawn.queries], drawn.supports)


class Contest:
    """The contenders of a case, which warm up from the start; a context manager that ends them."""

    def __init__(self, specs: list[Spec], case: Case, inputs: Inputs) -> None:
        """Start the processes."""
        self._inputs, self._size = inputs, case.size
        self._workers = {self._name(spec): RemoteWorker(spec, case.size) for spec in specs}
        self._specs = {self._name(spec): spec for spec in specs}
        self._call_s: dict[str, float] = {}  # seconds of a call, for measured contenders
        self._ended: dict[str, str] = {}  # contenders that were ended -> why
        self._pool = ThreadPoolExecutor(len(specs))
        self._ready: dict[str, Future[Any]] = {
            name: self._pool.submit(worker.call, "prepare", inputs)
            for name, worker in self._workers.items()
        }

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, *_: object) -> None:
        for name, worker in self._workers.items():
            worker.close(wait_s=10 if self._ready[name].done() else 0)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def measure(self, pace: Pace, left: Callable[[], float]) -> dict[str, Any]:
        """Time each contender, one query at a time and streamed.

        Args:
            pace: how long.
            left: seconds left for contenders that still warm up (compiling may take long). After
                that they are ended, so that they do not disturb the others.

        Returns:
            `rows`: contender, precision, what runs it, and `ms` (median, 10th and 90th percentile
            of a call, `streamed` milliseconds per frame; for the bundle also `network`, the time of
            `features` and `match` in a call), or why there are none; `wrong`: failures of the
            bundle.
        """
        for name in [name for name in self._workers if not self._warm(name, left)]:
            self._end(name, "no time was left: it still warmed up", wait_s=0)
        rows: list[dict[str, Any]] = []
        wrong: list[str] = []
        for name, spec in self._specs.items():
            row: dict[str, Any] = {"contender": spec.name, "precision": spec.precision}
            rows.append(row)
            if name in self._ended:
                row["skipped"] = self._ended[name]
                continue
            worker = self._workers[name]
            try:
                self._ready[name].result()
                row |= worker.call("facts")
                row["ms"] = _spread(worker.call("latency", "stream", pace.seconds, pace.least))
                found = worker.call("throughput", pace.seconds, pace.least)
                row["ms"]["streamed"] = round(statistics.mean(found["intervals"]), 3)
                if spec.name == OURS:
                    alone = worker.call("network", 2 * pace.least)
                    row["ms"]["network"] = round(statistics.median(alone), 3)
                self._call_s[name] = row["ms"]["median"] / 1000
            except Exception as error:  # noqa: BLE001  (torch.compile may fail in any way)
                row["failed"] = str(error)[:300]
                if spec.name == OURS:
                    wrong.append(f"{name}: {row['failed']}")
        return {"rows": rows, "wrong": wrong}

    def _warm(self, name: str, left: Callable[[], float]) -> bool:
        """Wait for a contender; returns whether it warmed up, or failed, in time."""
        try:
            self._ready[name].exception(timeout=max(1.0, left()))
        except TooLate:
            return False
        return True

    def again(self, inputs: Inputs, shots: int, pace: Pace, left: Callable[[], float]) -> None:
        """Let contenders warm up on the inputs of another case.

        Those that failed, or would take more than a third of the time left, are ended. (Compiled
        ones are not compiled again: they take one shot at a time.)

        Args:
            inputs: of that case.
            shots: expected factor on the time of a call.
            pace: at which they will be measured.
            left: seconds left.
        """
        calls = 2 * pace.least + 4  # one at a time, streamed, and warming up
        for name, worker in list(self._workers.items()):
            if name not in self._call_s:
                self._end(name, "it failed before")
            elif self._call_s[name] * shots * calls > left() / 3:
                self._end(name, "it would take more than a third of the time that is left")
            else:
                self._ready[name] = self._pool.submit(worker.call, "prepare", inputs)

    def _end(self, name: str, why: str, wait_s: float = 10) -> None:
        self._workers.pop(name).close(wait_s)
        self._ended[name] = why

    @staticmethod
    def _name(spec: Spec) -> str:
        return f"{spec.name} {spec.precision}"


def _spread(times: list[float]) -> dict[str, float]:
    low, middle, high = np.percentile(times, [10, 50, 90])
    return {"median": round(middle, 3), "p10": round(low, 3), "p90": round(high, 3)}


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Whether the targets are reached, as text.

    At least 4 times eager FP32, and not slower than compiled FP16; at most 0.3 ms or 5 % beyond the
    network; streamed, 95 % of the network's own rate; 300 frames a second with the shipped model.
    """

    def ms(contender: str, precision: str, what: str = "median") -> float | None:
        for row in rows:
            if (row["contender"], row["precision"]) == (contender, precision):
                found = row.get("ms", {}).get(what)
                return None if found is None else float(found)
        return None

    ours, streamed = ms(OURS, "fp16"), ms(OURS, "fp16", "streamed")
    lines = []
    for name, precision, least in ((BASELINE, "fp32", 4.0), (COMPILED, "fp16", 1.0)):
        theirs = ms(name, precision)
        if ours is None or theirs is None:
            lines.append(f"{least:g} x {name} {precision}: not measured")
        else:
            word = "reached" if theirs / ours >= least else "NOT reached"
            lines.append(f"{least:g} x {name} {precision}: {word}, {theirs / ours:.1f}")
    network = ms(OURS, "fp16", "network")
    if ours is not None and streamed is not None and network is not None:
        beside, share = ours - network, network / streamed
        word = "reached" if beside <= max(0.3, 0.05 * network) else "NOT reached"
        lines.append(f"0.3 ms or 5 % beside the network's {network:.2f}: {word}, {beside:.2f} ms")
        word = "reached" if share >= 0.95 else "NOT reached"
        lines.append(f"streamed, 95 % of the network back to back: {word}, {share:.0%}")
    if streamed is not None:
        rate = 1000 / streamed
        word = "reached" if rate >= 300 else "NOT reached"
        lines.append(
            f"300 frames a second streamed in FP16, of the shipped model: {word}, {rate:.0f}"
        )
    return lines
