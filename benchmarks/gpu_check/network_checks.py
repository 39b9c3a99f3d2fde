"""Checks of `make gpu-check PART=network` in its own process: outputs, accuracy, memory."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from hsnet_trt.benchmarks.accuracy.accuracy import evaluate
from hsnet_trt.benchmarks.accuracy.answers import BundleNetwork
from hsnet_trt.benchmarks.gpu_check.network_contest import FRAME, Pace
from hsnet_trt.benchmarks.limits.case import Inputs
from hsnet_trt.data.episodes.episode import Episode, Episodes
from hsnet_trt.data.sources import Source
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.device.driver import has
from hsnet_trt.runtime.device.machine import find_driver, usable_cores
from hsnet_trt.runtime.network import Network
from hsnet_trt.runtime.segmenter import FewShotSegmenter
from hsnet_trt.runtime.verify import verify_bundle

FIRST_EPISODES = 5  # their time decides how many are judged
SLACK_BYTES = 32 << 20  # growth that an allocator may cause without a leak
# Options in addition to the runtime's own (`ort.cuda.OPTIONS`).
CHOICES: Mapping[str, Mapping[str, str]] = {
    "as it is": {},
    "every algorithm timed": {"cudnn_conv_algo_search": "EXHAUSTIVE"},
    "channels last": {"prefer_nhwc": "1"},
    "channels last, every algorithm timed": {
        "prefer_nhwc": "1",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
    },
    "without CUDA graphs": {"enable_cuda_graph": "0"},
}


def golden(bundle: str, backend: str, precisions: Sequence[str]) -> dict[str, Any]:
    """Compare the bundle, in each precision, with PyTorch's outputs from when it was made."""
    rows, wrong = [], []
    size = Bundle.open(bundle).manifest.sizes[0]
    for precision in precisions:
        for found in verify_bundle(bundle, backend, size, precision):
            last = found.figures[-1]
            rows.append(
                {
                    "backend": found.backend,
                    "device": found.device,
                    "precision": precision,
                    "relative": last.relative,
                    "relative_p999": last.relative_p999,
                    "flipped": found.flipped,
                    "tolerance": dataclasses.asdict(found.tolerance),
                }
            )
            if not found.passed:
                culprit = found.culprit
                where = f", first in {culprit.graph} {culprit.tensor}" if culprit else ""
                wrong.append(f"{precision} is out of tolerance{where}")
    return {"rows": rows, "wrong": wrong}


def draw_episodes(size: tuple[int, int], count: int) -> Episodes | None:
    """Draw `count` episodes on all cores; None if OpenCV or scikit-image is missing."""
    if not (has("cv2") and has("skimage")):
        return None
    source = Source(("procedural",), size=size)
    # Spawned, because a process that uses CUDA must not be forked.
    with ProcessPoolExecutor(usable_cores(), get_context("spawn")) as pool:
        made = list(pool.map(partial(_draw, source), range(count), chunksize=8))
    opened = source.open("test")
    return Episodes(opened.name, opened.classes, made.__getitem__, count)


def _draw(source: Source, number: int) -> Episode:
    return source.open("test")[number]


def fp16_against_fp32(
    bundle: str, backend: str, episodes: Episodes | None, seconds: float
) -> dict[str, Any]:
    """mIoU in both precisions, and the share of pixels that FP16 changes, on drawn episodes.

    As many episodes as `seconds` allow; the targets are 0.1 mIoU and 0.2 % of pixels.
    """
    if episodes is None:
        return {"skipped": "OpenCV and scikit-image, which episodes are drawn with, are missing"}
    networks = [BundleNetwork(Path(bundle), backend, p) for p in ("fp32", "fp16")]
    try:
        start = time.perf_counter()
        most = len(episodes)
        found = evaluate(networks, [], episodes, count=min(FIRST_EPISODES, most))
        each = (time.perf_counter() - start) / found.episodes
        count = min(most, int(seconds / each))
        if count > found.episodes:
            found = evaluate(networks, [], episodes, count=count)
    finally:
        for network in networks:
            network.close()
    fp32, fp16 = found.rows
    difference, changed = fp16.difference or 0.0, fp16.changed or 0.0
    reached = abs(difference) <= 0.1 and changed <= 0.2
    return {
        "data": found.data,
        "episodes": found.episodes,
        "on": fp16.on,
        "miou": {"fp32": fp32.miou.value, "fp16": fp16.miou.value, "difference": difference},
        "pixels_flipped_percent": changed,
        "target": f"{'reached' if reached else 'NOT reached'}: 0.1 mIoU, 0.2 % of pixels",
    }


def long_run(
    segmenter: FewShotSegmenter,
    inputs: Inputs,
    count: int,
    device_bytes: Callable[[], int | None],
    left: Callable[[], float],
) -> dict[str, Any]:
    """Stream frames, and compare memory after a tenth of them with memory at the end.

    Args:
        segmenter: an open one; its supports are replaced.
        inputs: frames, and one support set.
        count: number of frames; fewer if time runs out.
        device_bytes: used memory of the device; None without one.
        left: seconds left.
    """
    segmenter.clear()
    supports = inputs.supports[0]
    segmenter.set_support("thing", supports.images[0], supports.masks[0])
    before: tuple[int, int | None] = (0, None)
    start, done = time.perf_counter(), 0

    def frames() -> Any:
        for number in range(count):
            if left() <= 0:
                return
            yield inputs.queries[number % len(inputs.queries)][0]

    for frame in segmenter.stream(frames()):
        if frame.error is not None:
            raise frame.error
        done += 1
        if done == max(1, count // 10):
            before = (_host_bytes(), device_bytes())
    seconds = time.perf_counter() - start
    after = (_host_bytes(), device_bytes())
    growth = {"host": after[0] - before[0]}
    if after[1] is not None and before[1] is not None:
        growth["device"] = after[1] - before[1]
    grown = [name for name, size in growth.items() if size > SLACK_BYTES]
    return {
        "frames": done,
        "asked": count,
        "frame": f"{FRAME[1]}x{FRAME[0]}",
        "fps": round(done / seconds, 1),
        "growth_bytes": growth,
        "wrong": [f"{name} memory grew by {growth[name]:,} bytes" for name in grown],
    }


def provider_options(
    bundle: str, precision: str, inputs: Inputs, pace: Pace, left: Callable[[], float]
) -> dict[str, Any]:
    """Time each lowering in the bundle with several options of the CUDA provider."""
    from hsnet_trt.runtime.backends import CPU_LOWERING, choose_graphs
    from hsnet_trt.runtime.ort.cuda import OPTIONS, check_cuda
    from hsnet_trt.runtime.ort.runner import OnnxRuntimeRunner, load_onnxruntime

    opened = Bundle.open(bundle)
    size = opened.manifest.sizes[0]
    lowerings = dict.fromkeys(
        g.variant.lowering
        for g in opened.manifest.graphs
        if g.variant.graph == "match" and g.variant.lowering != CPU_LOWERING
    )
    gpu = check_cuda(load_onnxruntime(), find_driver())
    rows: list[dict[str, Any]] = []
    for choice, options in CHOICES.items():
        for lowering in lowerings:
            row: dict[str, Any] = {"options": choice, "lowering": lowering}
            rows.append(row)
            if left() < 5 * pace.seconds:
                row["skipped"] = "no time was left"
                continue
            try:
                graphs = choose_graphs(opened, size, precision, device="gpu", lowering=lowering)
                runner = OnnxRuntimeRunner(opened, graphs, gpu, {**OPTIONS, **options})
                with FewShotSegmenter(Network(opened, runner, size, "")) as segmenter:
                    row["ms"] = _paced(segmenter, inputs, pace)
            except Exception as error:  # noqa: BLE001  (an option may be refused in any way)
                row["failed"] = str(error)[:300]
    return {"rows": rows}


def _paced(segmenter: FewShotSegmenter, inputs: Inputs, pace: Pace) -> dict[str, float]:
    """Median milliseconds of a frame alone and of the parts that the GPU's events time; and
    milliseconds of a frame when frames are streamed.
    """
    supports = inputs.supports[0]
    segmenter.set_support("thing", supports.images[0], supports.masks[0])
    times: dict[str, list[float]] = {}
    picture, calls, begin = inputs.queries[0][0], 0, 0.0
    while calls < pace.least + 3 or time.perf_counter() - begin < pace.seconds:
        if calls == 3:  # warm
            times, begin = {}, time.perf_counter()
        start = time.perf_counter()
        result = segmenter.segment(picture)
        times.setdefault("frame", []).append(1000 * (time.perf_counter() - start))
        for name, ms in result.timing.items():
            times.setdefault(name, []).append(ms)
        calls += 1
    found = {name: round(sorted(each)[len(each) // 2], 3) for name, each in times.items()}
    return found | {"streamed": round(1000 * _streamed(segmenter, picture, pace), 3)}


def _streamed(segmenter: FewShotSegmenter, picture: Any, pace: Pace) -> float:
    """Seconds from result to result."""
    begin, ends = time.perf_counter(), [0.0]

    def frames() -> Any:
        while len(ends) < pace.least + 3 or time.perf_counter() - begin < pace.seconds:
            yield picture

    for frame in segmenter.stream(frames()):
        if frame.error is not None:
            raise frame.error
        ends.append(time.perf_counter())
    return (ends[-1] - ends[1]) / (len(ends) - 2)


def _host_bytes() -> int:
    """The resident memory of this process; 0 if the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
