"""The runtime's checks on a real GPU: memory, streams, frame kernels, and the loop around them.

Where no TensorRT engine can be run, a kernel of fixed duration stands in for each engine, so that
what the loop itself costs is measured all the same.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hsnet_trt.benchmarks.gpu_check.frame_parts import measure_parts
from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.device.driver_types import OutOfGpuMemory
from hsnet_trt.runtime.device.gpu_lock import GpuLock
from hsnet_trt.runtime.device.memory import Block
from hsnet_trt.runtime.engines.frame_kernels import (
    LIKENESS,
    PREPARE,
    SETTLE,
    VOTE,
    FrameKernels,
    tiled,
)
from hsnet_trt.runtime.engines.frame_lane import Lane
from hsnet_trt.runtime.engines.frame_pipeline import GpuFrames
from hsnet_trt.runtime.engines.frame_tables import make_tables
from hsnet_trt.runtime.matching.graphs import Tensors
from hsnet_trt.runtime.matching.presence import best_matches
from hsnet_trt.runtime.pictures.postprocess import segment_logits
from hsnet_trt.runtime.pictures.preprocess import network_input, normalisation, place
from hsnet_trt.trt_plugins.nvcc import require_nvcc, run_nvcc

NETWORK, DECODER = (400, 400), (100, 100)
LEVEL = 1 / 255 / 0.224  # one grey level, normalised
FRAME = (720, 1280)
Shapes: TypeAlias = "dict[str, tuple[int, ...]]"
SPIN = """
extern "C" __global__ void hsnet_spin(unsigned long long nanoseconds)
{
    unsigned long long start, now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
    do { asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)); } while (now - start < nanoseconds);
}
"""


def compile_spin(folder: Path, arch: int) -> bytes:
    """Compile the kernel that runs for a given time and does nothing."""
    (folder / "spin.cu").write_text(SPIN)
    target = folder / "spin.fatbin"
    source = str(folder / "spin.cu")
    run_nvcc(require_nvcc(), "-fatbin", f"-arch=sm_{arch}", "-o", str(target), source)
    return target.read_bytes()


def check_memory(cuda: Cuda) -> dict[str, Any]:
    """Copies, page-locked and mapped memory, threads, and a request that cannot be met."""
    wrong: list[str] = []
    data = np.random.default_rng(0).integers(0, 256, 5_000_001, dtype=np.uint8)
    with cuda.current():
        stream = cuda.stream()
        address = cuda.allocate(data.nbytes)
        host = cuda.allocate_host(data.nbytes, mapped=False)
        host.array[: data.size] = data
        cuda.upload(address, host.array[: data.size], stream)
        back = np.empty_like(data)
        cuda.download(back, address, stream)
        cuda.synchronise(stream)
        if not np.array_equal(back, data):
            wrong.append("a copy up and down changed the data")
        cuda.zero(address, 1000, stream)
        cuda.download(back, address, stream)
        cuda.synchronise(stream)
        if back[:1000].any() or not np.array_equal(back[1000:], data[1000:]):
            wrong.append("zero did not fill what it should")
        if cuda.facts.maps_host_memory:
            mapped = cuda.allocate_host(4096, mapped=True)
            mapped.array[:4096] = data[:4096]
            cuda.download(back[:4096], mapped.device_address or 0, stream)
            cuda.synchronise(stream)
            if not np.array_equal(back[:4096], data[:4096]):
                wrong.append("the device does not see mapped memory")
            cuda.free_host(mapped)
        before = cuda.memory_info()[0]
        try:
            cuda.allocate(1 << 46)
            wrong.append("64 TB were allocated")
        except OutOfGpuMemory:
            pass
        if cuda.memory_info()[0] != before:
            wrong.append("a refused allocation took memory")

    def elsewhere() -> None:
        try:
            with cuda.current():
                cuda.free(address)
                cuda.free_host(host)
                cuda.destroy(stream)
        except BackendError as error:
            wrong.append(f"freeing from another thread: {error}")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    return {"wrong": wrong}


def check_kernels(cuda: Cuda, image: bytes, rounds: int = 40) -> dict[str, Any]:
    """Both ways of the frame kernels against Pillow and the CPU path, on odd sizes."""
    rng = np.random.default_rng(1)
    wrong: list[str] = []
    worst = {"prepare_f32": 0.0, "prepare_f16": 0.0, "scores": 0.0, "likeness": 0.0}
    with cuda.current():
        kernels, stream = FrameKernels(cuda, image), cuda.stream()
        for number in range(rounds):
            policy, half = ("stretch", "letterbox")[number % 2], number % 4 > 1
            h, w = (int(n) for n in rng.integers(1, 700, 2)) if number else FRAME
            pixels = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
            dtype = np.dtype(np.float16 if half else np.float32)
            bgr = number % 3 == 1
            found = _prepare(cuda, kernels, stream, pixels, policy, dtype, pad=number % 5, bgr=bgr)
            expected = network_input([pixels], NETWORK, Preprocessing(resize=policy))[0][0]
            error = float(np.abs(found - expected).max())
            key = "prepare_f16" if half else "prepare_f32"
            worst[key] = max(worst[key], error)
            if not error <= 1.01 * LEVEL + (2e-3 if half else 0):
                wrong.append(f"prepare {h}x{w} {policy} {dtype}{' BGR' * bgr}: {error}")
            shots = [int(n) for n in rng.integers(1, 6, int(rng.integers(1, 4)))]
            logits = rng.normal(0, 3, (sum(shots), 2, *DECODER)).astype(dtype)
            got = _vote(cuda, kernels, stream, logits, shots, (h, w), policy)
            placement = place((h, w), NETWORK, policy)
            masks, scores, _ = segment_logits(logits.astype(np.float32), shots, placement)
            if not np.array_equal(got[0].astype(bool), np.stack(masks)):
                wrong.append(f"masks {h}x{w} {policy} {dtype} {shots}")
            worst["scores"] = max(worst["scores"], float(np.abs(got[1] - np.stack(scores)).max()))
            channels, positions = (int(n) for n in rng.integers(1, 400, 2))
            last = rng.standard_normal((channels, positions)).astype(dtype)
            vectors = rng.standard_normal((int(rng.integers(1, 60)), channels)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            matches = _likeness(cuda, kernels, stream, last, vectors)
            error = float(np.abs(matches - best_matches(last, vectors)).max())
            worst["likeness"] = max(worst["likeness"], error)
        cuda.destroy(stream)
    wrong += [f"{key}: {worst[key]}" for key in ("scores", "likeness") if not worst[key] <= 1e-5]
    return {"rounds": rounds, "largest_error": worst, "wrong": wrong}


def _prepare(
    cuda: Cuda,
    kernels: FrameKernels,
    stream: Any,
    pixels: NDArray[Any],
    policy: str,
    dtype: np.dtype[Any],
    pad: int,
    *,
    bgr: bool,
) -> NDArray[Any]:
    height, width = pixels.shape[:2]
    placement = place((height, width), NETWORK, policy)
    tables = {n: np.ascontiguousarray(a) for n, a in vars(make_tables(placement, DECODER)).items()}
    pitch = 3 * width + pad
    rows = np.zeros((height, pitch), np.uint8)
    rows[:, : 3 * width] = (pixels[:, :, ::-1] if bgr else pixels).reshape(height, -1)
    out = np.empty((3, *NETWORK), dtype)
    sizes = {"pixels": rows.nbytes, "planes": out.nbytes} | {n: a.nbytes for n, a in tables.items()}
    block = Block(cuda, sizes)
    scale, shift = normalisation(Preprocessing())
    for name, array in (("pixels", rows), *tables.items()):
        cuda.upload(block.at(name), array, stream)
    argument = PREPARE.pack(
        block.at("pixels"),
        block.at("planes"),
        *(block.at(n) for n in ("columns", "column_taps", "rows", "row_taps")),
        pitch,
        tables["column_taps"].shape[1],
        tables["row_taps"].shape[1],
        *NETWORK,
        placement.top,
        placement.left,
        *placement.content,
        bgr,
        *scale,
        *shift,
    )
    kernels.prepare(dtype, NETWORK[1], NETWORK[0], argument, stream)
    cuda.download(out, block.at("planes"), stream)
    cuda.synchronise(stream)
    block.free()
    return out.astype(np.float32)


def _vote(
    cuda: Cuda,
    kernels: FrameKernels,
    stream: Any,
    logits: NDArray[Any],
    shots: list[int],
    size: tuple[int, int],
    policy: str,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    classes, count = len(shots), size[0] * size[1]
    tables = vars(make_tables(place(size, NETWORK, policy), DECODER))
    sent = {n: np.ascontiguousarray(tables[n]) for n in ("low_x", "along_x", "low_y", "along_y")}
    sent["first"] = np.cumsum([0, *shots]).astype(np.int32)
    sent["logits"] = logits
    masks = np.empty((classes, *size), np.uint8)
    scores = np.empty((classes, *size), np.float32)
    labels = np.empty(size, np.uint8)
    sizes = {n: a.nbytes for n, a in sent.items()}
    sizes |= {"votes": 2 * classes * count, "counts": 4 * (classes + 1)}
    sizes |= {"masks": masks.nbytes, "scores": scores.nbytes, "labels": count}
    block = Block(cuda, sizes)
    for name, array in sent.items():
        cuda.upload(block.at(name), array, stream)
    cuda.zero(block.at("counts"), sizes["counts"], stream)
    names = ("logits", "low_x", "along_x", "low_y", "along_y", "first", "votes", "scores", "counts")
    argument = VOTE.pack(
        *(block.at(n) for n in names), logits.size, len(logits), classes, *DECODER, *size
    )
    kernels.vote(logits.dtype, size[1], size[0], argument, stream)
    parts = ("votes", "scores", "counts", "labels", "masks")
    kernels.settle(count, SETTLE.pack(*(block.at(n) for n in parts), classes, count), stream)
    for name, array in (("masks", masks), ("scores", scores), ("labels", labels)):
        cuda.download(array, block.at(name), stream)
    cuda.synchronise(stream)
    block.free()
    return masks, scores, labels


def _likeness(
    cuda: Cuda,
    kernels: FrameKernels,
    stream: Any,
    last: NDArray[Any],
    vectors: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Float32 [N] of the features [C,h*w] of one query and the vectors [N,C] of objects."""
    objects, best = tiled(vectors), np.empty(len(vectors), np.float32)
    sizes = {"last": last.nbytes, "objects": objects.nbytes, "best": best.nbytes}
    block = Block(cuda, sizes)
    cuda.upload(block.at("last"), last, stream)
    cuda.upload(block.at("objects"), objects, stream)
    cuda.zero(block.at("best"), best.nbytes, stream)
    argument = LIKENESS.pack(*(block.at(name) for name in sizes), *last.shape, len(vectors))
    kernels.likeness(last.dtype, last.shape[1], len(vectors), argument, stream)
    cuda.download(best, block.at("best"), stream)
    cuda.synchronise(stream)
    block.free()
    return best


def draw_frame() -> NDArray[np.uint8]:
    """A frame of noise, uint8 [H,W,3]."""
    return np.random.default_rng(2).integers(0, 256, (*FRAME, 3), dtype=np.uint8)


class StandIn:
    """Stands for a `DeviceGraph`: a kernel of a given duration, in milliseconds."""

    def __init__(
        self, cuda: Cuda, spin: Any, stream: Any, most: dict[str, tuple[int, ...]], ms: float
    ) -> None:
        self._cuda, self._spin, self._stream = cuda, spin, stream
        self.most, self.least = most, most
        self.types = {name: np.dtype(np.float16) for name in most}
        self.shaped, self.capturable = 0, True
        self._argument = int(ms * 1e6).to_bytes(8, "little")

    def bind(self, name: str, address: int) -> None:
        """Nothing is read or written."""

    def shape(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Shapes do not change."""

    def output_shape(self, name: str) -> tuple[int, ...]:
        """The largest shape of a tensor."""
        return self.most[name]

    def launch(self, stream: int, *, capturing: bool = False) -> None:
        """Start that kernel in the stream it was made for."""
        self._cuda.launch(self._spin, "hsnet_spin", (1, 1), (1, 1), self._argument, self._stream)


class StandInFrames:
    """`GpuFrames` around two stand-ins, with a lane of `slots` slots; a context manager."""

    def __init__(
        self, cuda: Cuda, image: bytes, spin: bytes, ms: tuple[float, float], slots: int
    ) -> None:
        features: Shapes = {"image": (1, 3, *NETWORK), "f2": (1, 8), "f3": (1, 8)}
        features["f4"] = (1, 1, 4, 8)
        match: Shapes = {name: (1, 8) for name in ("f2", "f3", "f4", "s2", "s3", "s4")}
        match["logits"] = (1, 1, 2, *DECODER)
        self.cuda, self.ms = cuda, sum(ms)
        self.supports: Tensors = {n: np.zeros((1, 8), np.float16) for n in ("s2", "s3", "s4")}
        self.supports["objects"] = np.ones((1, 4), np.float32)
        with cuda.current():
            self.stream = cuda.stream()
            kernel = cuda.load_kernels(spin, ("hsnet_spin",), {"hsnet_spin": 8})
            self.engines: Any = {
                "features": StandIn(cuda, kernel, self.stream, features, ms[0]),
                "match": StandIn(cuda, kernel, self.stream, match, ms[1]),
            }
            sizes = {"image": 6 * NETWORK[0] * NETWORK[1], "f2": 64, "f3": 64, "f4": 64}
            self.arena = Block(cuda, sizes)
            self.frames = GpuFrames(
                cuda,
                self.engines,
                self.arena,
                self.stream,
                GpuLock(),
                Preprocessing(),
                FrameKernels(cuda, image),
            )
        self.lane: Lane = self.frames.open_lane(slots)
        self.slots = slots

    def __enter__(self) -> StandInFrames:
        return self

    def __exit__(self, *_: object) -> None:
        with self.cuda.current():
            self.frames.close()
            self.arena.free()
            self.cuda.destroy(self.stream)

    def run(self, count: int, each: Callable[[int], None] | None = None) -> float:
        """Send `count` frames through, `slots` in flight; returns seconds."""
        pixels = draw_frame()
        under_way: list[Any] = []
        start = time.perf_counter()
        for index in range(count):
            if len(under_way) == self.slots:
                under_way.pop(0).collect()
            under_way.append(self.lane.submit(pixels, self.supports, [1], scores=False))
            if each is not None:
                each(index)
        while under_way:
            under_way.pop(0).collect()
        return time.perf_counter() - start

    def engines_alone(self, count: int) -> float:
        """Seconds of the stand-ins back to back, nothing else on the GPU."""
        with self.cuda.current():
            start = time.perf_counter()
            for _ in range(count):
                for engine in self.engines.values():
                    engine.launch(self.stream.handle)
            self.cuda.synchronise(self.stream)
            return time.perf_counter() - start


def measure_loop(cuda: Cuda, image: bytes, spin: bytes, count: int = 400) -> dict[str, Any]:
    """What the loop costs beyond engines of 5 ms (3 + 2), one frame at a time and streamed."""
    found: dict[str, Any] = {"frame": f"{FRAME[1]}x{FRAME[0]}", "engine_ms": 5.0}
    for slots in (1, 2, 3):
        with StandInFrames(cuda, image, spin, (3.0, 2.0), slots) as standing:
            standing.run(20)
            alone = 1000 * standing.engines_alone(count) / count
            each = 1000 * standing.run(count) / count
            found[f"slots_{slots}"] = {
                "engine_ms": alone,
                "frame_ms": each,
                "beyond_ms": each - alone,
                "share_of_engine_throughput": alone / each,
            }
            if slots == 1:
                found["one_frame"] = measure_parts(
                    cuda,
                    standing.frames,
                    standing.stream,
                    draw_frame(),
                    standing.supports,
                    min(count, 100),
                )
    return found


def show_overlap(cuda: Cuda, image: bytes, spin: bytes) -> dict[str, Any]:
    """By events: the second frame is up before the first one's engines are done."""
    with StandInFrames(cuda, image, spin, (6.0, 4.0), 2) as standing:
        standing.run(10)
        pixels = np.zeros((*FRAME, 3), np.uint8)
        first, second = (
            standing.lane.submit(pixels, standing.supports, [1], scores=False) for _ in range(2)
        )
        with cuda.current():
            one, other = (frame.launched.slot.events for frame in (first, second))
            for events in (one, other):
                cuda.synchronise(events["done"])
            lead = cuda.elapsed_ms(other["uploaded"], one["matched"])
            gap = cuda.elapsed_ms(one["settled"], other["turn"])
        first.collect()
        second.collect()
    wrong = [] if lead > 0 else ["the second frame waited for the first"]
    return {"up_before_the_engines_end_ms": lead, "gap_between_frames_ms": gap, "wrong": wrong}


def long_run(cuda: Cuda, image: bytes, spin: bytes, count: int = 20_000) -> dict[str, Any]:
    """Many frames: device and host memory must not grow (under 1 MB)."""
    seen: list[tuple[int, int]] = []

    def look(index: int) -> None:
        if index in (count // 10, count - 1):
            with cuda.current():
                seen.append((cuda.memory_info()[0], resident_bytes()))

    with StandInFrames(cuda, image, spin, (0.1, 0.1), 3) as standing:
        seconds = standing.run(count, look)
    device, host = seen[0][0] - seen[-1][0], seen[-1][1] - seen[0][1]
    wrong = [
        f"{n} memory grew by {g} bytes"
        for n, g in (("device", device), ("host", host))
        if g > 1_000_000
    ]
    return {
        "frames": count,
        "seconds": seconds,
        "device_growth": device,
        "host_growth": host,
        "wrong": wrong,
    }


def resident_bytes() -> int:
    """Resident memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
