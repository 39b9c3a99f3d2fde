"""The time of a frame by parts: copy, upload, kernels, engines, refining, download, reading."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.frames.frame_pipeline import GpuFrames
from hsnet_trt.runtime.matching.graphs import Tensors

# Part -> events (from, to). The CPU works between "uploaded" and "turn", and between "matched" and
# "drawn", where a frame is compared with the objects; both count towards `rest_ms`.
_SPANS = {
    "prepare_ms": ("turn", "prepared"),
    "engines_ms": ("prepared", "matched"),
    "vote_ms": ("drawn", "settled"),
    "download_ms": ("settled", "done"),
}


def measure_parts(
    cuda: Cuda,
    frames: GpuFrames,
    stream: Any,
    pixels: NDArray[np.uint8],
    supports: Tensors,
    count: int = 50,
) -> dict[str, float]:
    """Median milliseconds of each part, over single frames, one at a time.

    Args:
        cuda: the driver.
        frames: the loop around the engines.
        stream: any stream; only the parts alone are timed in it.
        pixels: a frame, uint8 [H,W,3].
        supports: `s2`, `s3`, `s4` of one shot.
        count: number of frames, after five for warming up.

    Returns:
        `frame_ms`, the whole frame; its consecutive parts `copy_and_upload_ms`, `prepare_ms`,
        `engines_ms`, `vote_ms`, `download_ms`, `read_ms` (copying the masks out of page-locked
        memory) and `rest_ms` (launching, waiting, waking). Also `copy_alone_ms` into page-locked
        memory and `upload_alone_ms`, each without the other, and `refine_ms`, the extra time from
        logits to masks if masks are refined.
    """
    with cuda.current():
        slot, refining = frames.make_slot(), frames.make_slot(refine=True)
    rows = [_one_frame(cuda, frames, slot, pixels, supports) for _ in range(count + 5)][5:]
    with cuda.current():
        alone = [_alone(cuda, slot, stream, pixels) for _ in range(count)]
    plain, refined = (
        statistics.median(
            [_drawing(cuda, frames, each, pixels, supports) for _ in range(count + 5)][5:]
        )
        for each in (slot, refining)
    )
    frames.drop([slot, refining])
    found = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    found["refine_ms"] = refined - plain
    return found | {name: statistics.median(row[name] for row in alone) for name in alone[0]}


def _one_frame(
    cuda: Cuda, frames: GpuFrames, slot: Any, pixels: NDArray[np.uint8], supports: Tensors
) -> dict[str, float]:
    begin = time.perf_counter()
    started = frames.start(slot, pixels, supports, [1], scores=False)
    frames.await_done(started)
    done = time.perf_counter()
    frames.finish(started)
    end = time.perf_counter()
    with cuda.current():
        uploading = cuda.elapsed_ms(slot.events["begun"], slot.events["uploaded"])
        spans = {
            name: cuda.elapsed_ms(slot.events[first], slot.events[last])
            for name, (first, last) in _SPANS.items()
        }
    parts = {
        "copy_and_upload_ms": started.staged_ms + uploading,
        **spans,
        "read_ms": 1000 * (end - done),
    }
    frame = 1000 * (end - begin)
    return {"frame_ms": frame, **parts, "rest_ms": frame - sum(parts.values())}


def _drawing(
    cuda: Cuda, frames: GpuFrames, slot: Any, pixels: NDArray[np.uint8], supports: Tensors
) -> float:
    """Milliseconds from the logits of a frame to its masks, by events."""
    frames.finish(frames.start(slot, pixels, supports, [1], scores=False))
    with cuda.current():
        return cuda.elapsed_ms(slot.events["matched"], slot.events["settled"])


def _alone(cuda: Cuda, slot: Any, stream: Any, pixels: NDArray[np.uint8]) -> dict[str, float]:
    begin = time.perf_counter()
    np.copyto(slot.pixels.host[: pixels.size].reshape(pixels.shape), pixels)
    copied = 1000 * (time.perf_counter() - begin)
    cuda.record(slot.events["begun"], stream)
    slot.pixels.upload(0, pixels.size, stream)
    cuda.record(slot.events["uploaded"], stream)
    cuda.synchronise(stream)
    uploaded = cuda.elapsed_ms(slot.events["begun"], slot.events["uploaded"])
    return {"copy_alone_ms": copied, "upload_alone_ms": uploaded}


def in_words(parts: dict[str, float]) -> str:
    """The parts of `measure_parts` as one line of text."""
    names = (
        ("copy_and_upload_ms", "copy and upload"),
        ("prepare_ms", "prepare"),
        ("vote_ms", "vote"),
        ("download_ms", "download"),
        ("read_ms", "reading"),
        ("rest_ms", "launching and waiting"),
        ("refine_ms", "and refining, where it is on,"),
    )
    return ", ".join(f"{name} {parts[key]:.3f}" for key, name in names)
