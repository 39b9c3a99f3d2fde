"""``make gpu-check PART=network BUNDLE=folder``: a bundle's whole network on this card, in 90 s.

It checks and measures, the most important first: the golden outputs; one query of 1280 x 720 with
supports registered before, one at a time and streamed, beside PyTorch eager (FP32, and FP16 by
autocast) and torch.compile in FP16; FP32 against FP16 on up to 300 drawn episodes; five shots; that
2,000 frames do not grow memory; the bundle's lowerings with several options of ONNX Runtime's CUDA
provider. Parts that time does not allow are skipped, and the file names them.

Runs from the source tree with the libraries on PYTHONPATH; nothing is installed. The backend is the
best that works here; if that is the CPU in spite of a card, the reasons are an error, and only
PyTorch is measured. The figures go into ``$OUT/network.json`` (``build/gpu_check`` without
``OUT``), rewritten after each part. It ends with 1 if something is wrong; a missed target is
printed, but is no error. ``ARGS=--full`` takes up to 5 minutes. Without a GPU it says so, and ends
with 0; ``ARGS=--rehearse`` runs all of it on the CPU with few frames, to test the check itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hsnet_trt.benchmarks.gpu_check import network_checks as checks
from hsnet_trt.benchmarks.gpu_check.benchmark import table
from hsnet_trt.benchmarks.gpu_check.network_contest import (
    OURS,
    Contest,
    Pace,
    contenders,
    frames_of,
    verdicts,
)
from hsnet_trt.benchmarks.gpu_check.report import GpuReport
from hsnet_trt.benchmarks.limits.case import Case, Inputs
from hsnet_trt.benchmarks.limits.machine_facts import machine_facts
from hsnet_trt.benchmarks.speed.contenders import Spec
from hsnet_trt.data.episodes.episode import Episodes
from hsnet_trt.errors import HSNetError
from hsnet_trt.runtime.backends import open_runner
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.device.driver import has
from hsnet_trt.runtime.device.machine import find_driver
from hsnet_trt.runtime.segmenter import FewShotSegmenter


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much to measure.

    Attributes:
        budget_s: seconds for everything.
        device: of PyTorch.
        pace: of each timed row.
        episodes: most episodes.
        episodes_s: seconds for them.
        compile_s: when fewer seconds are left, torch.compile is no longer waited for.
        frames: of the long run.
    """

    budget_s: float
    device: str
    pace: Pace
    episodes: int
    episodes_s: float
    compile_s: float
    frames: int


CARD = Scale(85.0, "cuda", Pace(1.0, 10), 300, 12.0, 40.0, 2000)
FULL = Scale(300.0, "cuda", Pace(1.5, 20), 300, 25.0, 150.0, 2000)
REHEARSAL = Scale(500.0, "cpu", Pace(0.2, 2), 6, 20.0, 30.0, 20)
# Parts that need the bundle to run, apart from its rows in the race.
BUNDLE_PARTS = ("golden outputs", "FP16 against FP32", "long run", "options of ONNX Runtime")


class Parts:
    """The parts of the check.

    Args:
        report: collects the figures and knows the time left.
        bundle: its folder.
        scale: how much to measure.
    """

    def __init__(self, report: GpuReport, bundle: str, scale: Scale) -> None:
        manifest = Bundle.open(bundle).manifest
        self.report, self._bundle, self._scale = report, bundle, scale
        self._size, self._backbone = manifest.sizes[0], manifest.model.backbone
        self._grids = _grids(self._backbone, self._size)
        held = {g.variant.precision for g in manifest.graphs if g.variant.graph == "match"}
        self._precisions = tuple(p for p in ("fp16", "fp32") if p in held)
        self._backend = "auto" if scale.device == "cuda" else "onnxruntime"
        self._episodes: Episodes | None = None
        self.rows: list[dict[str, Any]] = []

    def backend(self) -> dict[str, Any]:
        """Open the best backend that works here; wrong if that is the CPU in spite of a card."""
        opened = Bundle.open(self._bundle)
        runner, reason = open_runner(opened, self._size, self._backend, self._precisions[0])
        try:
            self._backend = runner.backend
            found = {
                "backend": runner.backend,
                "device": runner.device,
                "precision": runner.precision,
                "frames": "on the GPU" if runner.frames is not None else "by the CPU",
                "reason": reason,
            }
        finally:
            runner.close()
        fallen = self._backend == "onnxruntime" and self._scale.device != "cpu"
        return found | {"wrong": [f"the CPU runs it: {reason}"] if fallen else []}

    def all(self) -> None:
        """Everything, the most important first; only PyTorch if the bundle cannot run here."""
        report = self.report
        report.run("backend", self.backend)
        if report.failed:
            self._pytorch_alone(report.content["backend"]["wrong"][0])
        else:
            self._with_bundle()
        if self._scale.device == "cuda":
            report.content["targets"] = verdicts(self.rows)
            report.write()

    def _pytorch_alone(self, reason: str) -> None:
        """Race without the bundle; its rows and parts are marked as skipped for `reason`."""
        for part in BUNDLE_PARTS:
            self.report.content[part] = {"skipped": reason}
        ours, pytorch = self._contenders()
        missing = [
            {"contender": spec.name, "precision": spec.precision, "skipped": reason}
            for spec in ours
        ]
        with Contest(pytorch, Case(self._backbone, self._size), self._inputs(1)) as contest:
            self._race(contest, missing)

    def _with_bundle(self) -> None:
        report, scale = self.report, self._scale
        report.run("episodes drawn", self._draw)
        one = self._inputs(1)
        ours, pytorch = self._contenders()
        # Checks that do not measure time run while processes load and compile.
        with Contest([*ours, *pytorch], Case(self._backbone, self._size), one) as contest:
            report.run(
                "golden outputs",
                lambda: checks.golden(self._bundle, self._backend, self._precisions),
            )
            report.run("FP16 against FP32", self._compare_precisions)
            self._race(contest)
        report.run("long run", partial(self._long_run, one))
        if self._backend == "onnxruntime_cuda":
            pace = Pace(scale.pace.seconds / 2, scale.pace.least)
            report.run(
                "options of ONNX Runtime",
                lambda: checks.provider_options(
                    self._bundle, self._precisions[0], one, pace, lambda: report.left
                ),
            )

    def _compare_precisions(self) -> dict[str, Any]:
        if len(self._precisions) < 2:
            return {"skipped": f"the bundle holds no other precision than {self._precisions[0]}"}
        return checks.fp16_against_fp32(
            self._bundle, self._backend, self._episodes, self._scale.episodes_s
        )

    def _contenders(self) -> tuple[list[Spec], list[Spec]]:
        """The bundle in each precision, and PyTorch in each variant."""
        bundle, device, precisions = self._bundle, self._scale.device, self._precisions
        specs = contenders(bundle, self._backbone, self._backend, device, precisions)
        return [s for s in specs if s.name == OURS], [s for s in specs if s.name != OURS]

    def _race(self, contest: Contest, missing: Sequence[dict[str, Any]] = ()) -> None:
        """One shot, then five; `missing`: rows of contenders that cannot run."""
        report, pace = self.report, self._scale.pace

        def measure(left: Callable[[], float]) -> dict[str, Any]:
            found = contest.measure(pace, left)
            return found | {"rows": [*missing, *found["rows"]]}

        report.run("1-shot", lambda: measure(partial(self._left_after, self._scale.compile_s)))
        self.rows = report.content["1-shot"].get("rows", [])
        contest.again(self._inputs(5), 5, pace, lambda: report.left)
        report.run("5-shot", lambda: measure(lambda: report.left))

    def _draw(self) -> dict[str, Any]:
        self._episodes = checks.draw_episodes(self._size, self._scale.episodes)
        return {"episodes": 0 if self._episodes is None else len(self._episodes)}

    def _inputs(self, shots: int) -> Inputs:
        return frames_of(Case(self._backbone, self._size, shots), self._grids)

    def _left_after(self, seconds: float) -> float:
        return self.report.left - seconds

    def _long_run(self, inputs: Inputs) -> dict[str, Any]:
        segmenter = FewShotSegmenter.load(
            self._bundle, self._backend, self._size, precision=self._precisions[0]
        )
        with segmenter:
            return checks.long_run(
                segmenter,
                inputs,
                self._scale.frames,
                partial(_device_bytes, self._scale.device),
                lambda: self.report.left - 10,
            )


def _grids(backbone: str, size: tuple[int, int]) -> Sequence[tuple[int, int]]:
    from hsnet_trt.model.hsnet import HSNet

    return HSNet(backbone).grids(size)


def _device_bytes(device: str) -> int | None:
    """Used memory of the card, by all processes; None on the CPU."""
    if device == "cpu":
        return None
    import torch

    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def main() -> int:
    """Check what this machine can run, print it and write it to the file."""
    parser = argparse.ArgumentParser(description="A bundle's network on this card.")
    parser.add_argument("--full", action="store_true", help="up to 5 minutes: for every option")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with few frames")
    arguments, bundle = parser.parse_args(), os.environ.get("BUNDLE")
    rehearse = arguments.rehearse
    driver = find_driver()
    if not driver.gpus and not rehearse:
        print(f"gpu-check network: skipped, {driver.problem}")
        return 0
    for missing, words in (
        (not bundle, "no BUNDLE was given"),
        (not has("torch"), "PyTorch is not installed"),
    ):
        if missing:
            print(f"gpu-check network: skipped, {words}")
            return 0
    assert bundle
    out = Path(os.environ.get("OUT", "build/gpu_check"))
    out.mkdir(parents=True, exist_ok=True)
    scale = REHEARSAL if rehearse else FULL if arguments.full else CARD
    report = GpuReport(out / "network.json", scale.budget_s, 5.0)
    report.content |= {"machine": machine_facts(), "rehearsal": rehearse}
    try:
        parts = Parts(report, bundle, scale)
    except HSNetError as error:
        print(f"gpu-check network: {error}")
        return 1
    parts.all()
    print(table(parts.rows, "contender", "precision", "device"))
    print("\n".join(report.content.get("targets", [])))
    report.write()
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
