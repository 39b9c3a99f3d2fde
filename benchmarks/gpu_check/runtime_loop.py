"""The loop around the network on a real GPU: its cost, the overlap of frames, and leaks.

A kernel of fixed duration stands in for each engine, so that the cost of the loop itself can be
measured without TensorRT.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hsnet_trt.benchmarks.gpu_check.frame_parts import measure_parts
from hsnet_trt.benchmarks.gpu_check.runtime_kernels import DECODER, FRAME, NETWORK
from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.device.gpu_lock import GpuLock
from hsnet_trt.runtime.device.memory import Block
from hsnet_trt.runtime.frames.frame_kernels import (
    FrameKernels,
)
from hsnet_trt.runtime.frames.frame_lane import Lane
from hsnet_trt.runtime.frames.frame_pipeline import GpuFrames
from hsnet_trt.runtime.matching.graphs import Tensors
from hsnet_trt.trt_plugins.nvcc import require_nvcc, run_nvcc

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
    """Compile a kernel that only runs for a given time."""
    (folder / "spin.cu").write_text(SPIN)
    target = folder / "spin.fatbin"
    source = str(folder / "spin.cu")
    run_nvcc(require_nvcc(), "-fatbin", f"-arch=sm_{arch}", "-o", str(target), source)
    return target.read_bytes()


def draw_frame() -> NDArray[np.uint8]:
    """A frame of noise, uint8 [H,W,3]."""
    return np.random.default_rng(2).integers(0, 256, (*FRAME, 3), dtype=np.uint8)


class StandIn:
    """Stands in for a `DeviceGraph`: a kernel of a given duration in milliseconds."""

    def __init__(
        self, cuda: Cuda, spin: Any, stream: Any, most: dict[str, tuple[int, ...]], ms: float
    ) -> None:
        self._cuda, self._spin, self._stream = cuda, spin, stream
        self.most, self.least = most, most
        self.types = {name: np.dtype(np.float16) for name in most}
        self.shaped, self.capturable = 0, True
        self._argument = int(ms * 1e6).to_bytes(8, "little")

    def bind(self, name: str, address: int) -> None:
        """Do nothing: no tensor is read or written."""

    def shape(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Do nothing: shapes do not change."""

    def output_shape(self, name: str) -> tuple[int, ...]:
        """The largest shape of a tensor."""
        return self.most[name]

    def launch(self, stream: int, *, capturing: bool = False) -> None:
        """Launch the kernel in the stream given at construction."""
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
        """Process `count` frames with `slots` in flight; returns seconds."""
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
        """Seconds for the stand-ins back to back, with nothing else on the GPU."""
        with self.cuda.current():
            start = time.perf_counter()
            for _ in range(count):
                for engine in self.engines.values():
                    engine.launch(self.stream.handle)
            self.cuda.synchronise(self.stream)
            return time.perf_counter() - start


def measure_loop(cuda: Cuda, image: bytes, spin: bytes, count: int = 400) -> dict[str, Any]:
    """The loop's cost beyond engines of 5 ms (3 + 2), one frame at a time and streamed."""
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
    """Check by events that the second frame is uploaded before the first one's engines end."""
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
    """Process many frames; device and host memory must not grow by more than 1 MB each."""
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
