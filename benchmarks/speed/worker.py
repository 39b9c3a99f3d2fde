"""One contender in its own process, controlled by the process that measures.

Contenders thus share nothing but the machine: no thread pool of one spins while another is timed,
each has its own memory, and a crash affects only one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import time
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from hsnet_trt.benchmarks.limits.case import Inputs, Pixels
from hsnet_trt.benchmarks.speed.bundle_contender import BundleContender
from hsnet_trt.benchmarks.speed.contenders import Contender, Masks, Spec
from hsnet_trt.benchmarks.speed.torch_contender import TorchContender
from hsnet_trt.errors import BackendError, HSNetError

_ANSWER_S = 600.0  # longer than any call takes, including torch.compile
_HOPELESS_S = 20.0  # an episode this slow is not run twice
_LONG_S = 0.5  # calls longer than this are not affected by a cold cache


def open_contender(spec: Spec, size: tuple[int, int]) -> Contender:
    """Open a contender.

    Raises:
        HSNetError: it cannot run here.
    """
    return TorchContender(spec, size) if spec.kind == "torch" else BundleContender(spec, size)


class Worker:
    """The child's side. Inputs are used in turn, so that no call repeats the previous one."""

    def __init__(self, spec: Spec, size: tuple[int, int]) -> None:
        self._spec = spec
        self._contender: Contender = open_contender(spec, size)
        self._inputs: Inputs | None = None
        self._turn = 0
        self._seconds = 0.0  # of an episode

    def prepare(self, inputs: Inputs) -> float:
        """Take the inputs of a case and warm up; returns the seconds of an episode.

        It is the second episode that counts, unless the first took more than 20 s without
        compiling.
        """
        self._inputs, self._turn = inputs, 0
        _forget_peak()
        seconds = 0.0
        for _ in range(2):
            start = time.perf_counter()
            self._episode()
            seconds = time.perf_counter() - start
            if seconds > _HOPELESS_S and not self._spec.compiled:
                break
        self._seconds = seconds
        return seconds

    def latency(self, workload: str, seconds: float, least: int) -> list[float]:
        """Milliseconds of each call, one at a time: at least `least`, for at least `seconds`.

        "stream": a query, with the supports registered before. "episode": supports and query.
        """
        call = self._episode if workload == "episode" else self._query
        if workload == "stream":
            self._register()
        if self._seconds < _LONG_S:
            call()  # warm up, because the caches hold another contender's data
        times: list[float] = []
        begin = time.perf_counter()
        while len(times) < least or time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - start))
        return times

    def throughput(self, seconds: float, least: int) -> dict[str, Any]:
        """Stream at least `least` frames, for at least `seconds`.

        Returns:
            `intervals`: milliseconds from each result to the next; `frames`: number of results.
        """
        self._register()
        begin = time.perf_counter()
        stamps: list[float] = []

        def frames() -> Iterator[Pixels]:
            # One frame more than `least`, because the first result gives no interval.
            while len(stamps) <= least or time.perf_counter() - begin < seconds:
                yield from self._next().queries[self._turn]

        for _ in self._contender.stream(frames()):
            stamps.append(time.perf_counter())
        return {"intervals": (1000 * np.diff(stamps)).tolist(), "frames": len(stamps)}

    def network(self, least: int) -> list[float]:
        """Milliseconds of a bundle's `features` and `match` alone, in `least` calls."""
        assert isinstance(self._contender, BundleContender)
        self._register()
        return [
            self._contender.network_ms(self._next().queries[self._turn][0]) for _ in range(least)
        ]

    def answer(self) -> tuple[np.ndarray, Masks]:
        """Scores [class,H,W] and masks [class,H,W] of the first query with the first supports."""
        assert self._inputs is not None
        self._contender.register(self._inputs.supports[0])
        image = self._inputs.queries[0][0]
        return self._contender.scores(image), self._contender.segment([image])[0]

    def memory(self) -> dict[str, int | None]:
        """Peak memory since `prepare`: of the whole process on the host, and on the device."""
        return {"host_bytes": _peak(), "device_bytes": self._contender.device_bytes()}

    def facts(self) -> dict[str, str]:
        """What runs it, as text."""
        return self._contender.facts()

    def _next(self) -> Inputs:
        assert self._inputs is not None
        self._turn = (self._turn + 1) % len(self._inputs.queries)
        return self._inputs

    def _register(self) -> None:
        self._contender.register(self._next().supports[self._turn])

    def _query(self) -> None:
        self._contender.segment(self._next().queries[self._turn])

    def _episode(self) -> None:
        self._register()
        self._query()


class RemoteWorker:
    """A `Worker` in a child process. Every call may raise what went wrong there."""

    def __init__(self, spec: Spec, size: tuple[int, int]) -> None:
        context = multiprocessing.get_context("spawn")
        self.spec = spec
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, spec, size), daemon=True)
        self._process.start()
        theirs.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the worker.

        Raises:
            BackendError: the method raised, the process ended, or it does not answer.
        """
        try:
            self._pipe.send((method, arguments))
            if not self._pipe.poll(_ANSWER_S):
                raise BackendError(f"{self.spec.name} does not answer", found=f"{_ANSWER_S:.0f} s")
            kind, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(5)
            raise BackendError(
                f"{self.spec.name} ended", found=f"exit code {self._process.exitcode}"
            ) from error
        if kind == "error":
            raise BackendError(f"{self.spec.name} cannot run here", found=value)
        return value

    def close(self, wait_s: float = 10) -> None:
        """End the process; kill it if it does not end within `wait_s` seconds."""
        self._pipe.close()
        self._process.join(wait_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(pipe: Connection, spec: Spec, size: tuple[int, int]) -> None:
    warnings.simplefilter("ignore")
    worker: Worker | None = None
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            os._exit(0)  # do not wait for the libraries' threads
        try:
            worker = worker or Worker(spec, size)
            pipe.send(("value", getattr(worker, method)(*arguments)))
        except HSNetError as error:
            pipe.send(("error", str(error)))
        except Exception as error:  # noqa: BLE001  (whatever it is, the others go on)
            pipe.send(("error", f"{type(error).__name__}: {error}"[:2000]))


def _forget_peak() -> None:
    """Make Linux restart its count of peak memory; elsewhere it covers the whole run."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The peak resident memory of this process, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
