"""Run episodes through the graphs and collect the ranges of the tensors to be quantised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.calibration.episodes import encode, logits_of
from hsnet_trt.calibration.histogram import Histogram
from hsnet_trt.calibration.network import MemoryRunner
from hsnet_trt.calibration.subject import QUANTIZED, Subject
from hsnet_trt.calibration.table import CalibrationTable, TensorRange
from hsnet_trt.data.episodes.episode import Episode, Episodes
from hsnet_trt.errors import InputError

LEAST = 8  # episodes; with fewer, the ranges depend more on the pictures than on the network

Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in total


def some_object(
    episodes: Episodes,
    count: int,
    *,
    least: int | None = None,
    progress: Progress = lambda *_: None,
) -> Iterator[Episode]:
    """Yield the first `count` episodes that have no empty support mask.

    Args:
        episodes: the episodes.
        count: how many of them.
        least: with how many it is content where the source has no more; by default `count`.
        progress: called before each episode.

    Raises:
        InputError: there are too few such episodes.
    """
    least = count if least is None else min(least, count)
    yielded = empty = index = 0
    while yielded < count and (episodes.count is None or index < episodes.count):
        progress(episodes.name, yielded, count)
        episode = episodes[index]
        index += 1
        if all(mask.any() for mask in episode.support_masks):
            yielded += 1
            yield episode
        else:
            empty += 1
        if not yielded and empty >= max(4 * count, 100):
            break
    progress(episodes.name, yielded, count)
    if not yielded and empty:
        raise InputError(
            f"the support masks of {episodes.name} are all empty",
            expected="masks that mark an object: matching nothing gives ranges of nothing",
            found=f"{empty} episodes without a pixel of foreground",
            fix="check the masks: white, or anything but 0, is the object",
        )
    if yielded < least:
        raise InputError(
            f"{episodes.name} has too few episodes",
            expected=f"{least} with an object in every support",
            found=yielded,
            fix="give more pictures, or ask for fewer with --episodes",
        )


def collect(
    subject: Subject,
    episodes: Episodes,
    count: int,
    *,
    method: str = "entropy",
    made_by: str = "",
    progress: Progress = lambda what, done, total: None,
) -> CalibrationTable:
    """Run episodes through `features`, `support` and `match` and record each tensor's range.

    Memory does not grow with `count`: only a histogram per tensor is kept.

    Args:
        subject: the graphs.
        episodes: of the subject's size.
        count: number of episodes, at least `LEAST`.
        method: the method that the table selects; it holds the thresholds of all methods.
        made_by: the command, stored in the table.
        progress: called before each episode.

    Raises:
        InputError: too few episodes, only empty masks, or a tensor that is not finite in some
            episode or has the same value everywhere.
        BackendError: ONNX Runtime failed.
    """
    if count < LEAST:
        raise InputError(
            "INT8 cannot be calibrated with so few episodes",
            expected=f"at least {LEAST}",
            found=count,
            fix="64 are a good number",
        )
    histograms: dict[tuple[str, str], Histogram] = {}
    shown = ""

    def seen(graph: str, tensor: str, value: npt.NDArray[Any]) -> None:
        if not np.isfinite(value).all():
            raise InputError(
                f"{tensor} of {graph} is not finite",
                expected="finite numbers",
                found=f"{int((~np.isfinite(value)).sum())} of {value.size} values, in {shown}",
                fix="leave that picture out if it alone does this; else check the checkpoint",
            )
        histograms.setdefault((graph, tensor), Histogram()).add(value)

    taps = {name: p.sources for name, p in subject.placements.items()}
    runner = MemoryRunner(subject.graphs, taps, seen, subject.files["match"].packing)
    policy = subject.bundle.manifest.preprocessing
    for episode in some_object(episodes, count, progress=progress):
        shown = f"the episode of query {episode.query_name}"
        logits_of(runner, encode(runner, episode, subject.size, policy))
    runner.close()
    return CalibrationTable(
        weights_sha256=subject.bundle.manifest.model.weights_sha256,
        backbone=subject.bundle.manifest.model.backbone,
        size=subject.size,
        lowering=subject.files["match"].variant.lowering,
        graphs={name: subject.hashes[name] for name in QUANTIZED},
        method=method,
        data=episodes.name,
        episodes=count,
        made_by=made_by,
        ranges={
            name: {
                tensor: _range(name, tensor, histograms[name, tensor])
                for tensor in subject.placements[name].sources
            }
            for name in QUANTIZED
        },
    )


def _range(graph: str, tensor: str, histogram: Histogram) -> TensorRange:
    if histogram.low == histogram.high:
        raise InputError(
            f"{tensor} of {graph} is the same number in every episode",
            expected="activations that vary: a constant has no range to divide by 127",
            found=f"{histogram.low:g}, {histogram.values} times",
            fix="check the pictures (all of one colour?) and the checkpoint (a dead layer?)",
        )
    return TensorRange(
        low=histogram.low,
        high=histogram.high,
        values=histogram.values,
        thresholds=histogram.thresholds(),
    )
