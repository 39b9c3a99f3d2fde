"""A CUDA device that is not there, with the manners of a real one.

Memory is host memory at real addresses. Work in a stream is done as late as it may be: when
somebody waits for it, in the order that streams and events ask for and no other. So a missing
wait, a buffer used again too soon and memory freed too early show as wrong results or as errors.
Refused, as CUDA refuses it: no current context, a copy past the end of an allocation, memory that
was freed, allocating or waiting on a stream that is being captured.
"""

from __future__ import annotations

import ctypes
import itertools
import struct
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from hsnet_trt.runtime.engines import frame_twin
from hsnet_trt.runtime.engines.frame_kernels import PREPARE, SETTLE, VOTE
from hsnet_trt.runtime.engines.frame_tables import Tables
from hsnet_trt.runtime.pictures.preprocess import Placement

_device = threading.RLock()  # one device, whoever waits for it


class CudaRefused(Exception):
    """What CUDA would have refused; the faces turn it into their library's error."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Event:
    def __init__(self) -> None:
        self.record: tuple[Stream, int] | None = None
        self.at = 0.0

    def done(self) -> bool:
        return self.record is not None and self.record[0].finished >= self.record[1]


class Stream:
    def __init__(self, number: int) -> None:
        self.number = number
        self.work: list[Callable[[], None]] = []
        self.finished = 0
        self.capturing: list[Callable[[], None]] | None = None

    def add(self, work: Callable[[], None]) -> None:
        (self.work if self.capturing is None else self.capturing).append(work)

    def run(self, until: int | None = None) -> None:
        if self.capturing is not None:
            raise CudaRefused("STREAM_CAPTURE_UNSUPPORTED")
        with _device:
            while self.finished < (len(self.work) if until is None else until):
                self.work[self.finished]()
                self.work[self.finished] = lambda: None  # done, and its memory let go
                self.finished += 1


class FakeCuda:
    def __init__(self) -> None:
        self.depth: dict[int, int] = {}  # thread -> depth of its context stack
        self.retained = 0
        self.device: dict[int, Any] = {}  # address -> block
        self.host: dict[int, Any] = {}
        self.graveyard: list[Any] = []  # so that no address comes back
        self.streams: list[Stream] = []
        self.memory_left = 10**12
        self.allocations = 0  # of device or page-locked memory, ever
        self.integrated = False
        self.clock = itertools.count(1)
        self.copies: list[str] = []
        self.launches: list[str] = []
        self.copy_ms = 1.0

    def need_context(self) -> None:
        if not self.depth.get(threading.get_ident()):
            raise CudaRefused("INVALID_CONTEXT")

    def push(self) -> None:
        me = threading.get_ident()
        self.depth[me] = self.depth.get(me, 0) + 1

    def pop(self) -> None:
        self.need_context()
        self.depth[threading.get_ident()] -= 1

    def allocate(self, size: int, where: dict[int, Any]) -> int:
        self.need_context()
        if any(stream.capturing is not None for stream in self.streams):
            raise CudaRefused("STREAM_CAPTURE_UNSUPPORTED")
        if size <= 0:
            raise CudaRefused("INVALID_VALUE")
        if size > self.memory_left or size > 1 << 40:
            raise CudaRefused("OUT_OF_MEMORY")
        self.allocations += 1
        raw = ctypes.create_string_buffer(b"\xab" * (size + 255), size + 255)  # not zeros
        address = -(-ctypes.addressof(raw) // 256) * 256
        where[address] = (raw, size)
        return address

    def free(self, address: int, where: dict[int, Any]) -> None:
        self.need_context()
        if address not in where:
            raise CudaRefused("INVALID_VALUE")
        self.graveyard.append(where.pop(address))

    def check(self, address: int, size: int) -> None:
        """Whether those bytes lie in one living allocation that the device reaches."""
        for start, (_, length) in (*self.device.items(), *self.host.items()):
            if start <= address and address + size <= start + length:
                return
        raise CudaRefused("ILLEGAL_ADDRESS")

    def view(self, address: int, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.check(address, size)
        raw = (ctypes.c_uint8 * size).from_address(address)
        return np.frombuffer(raw, dtype).reshape(shape)

    def make_stream(self) -> Stream:
        self.need_context()
        self.streams.append(Stream(len(self.streams) + 7))
        return self.streams[-1]

    def find_stream(self, number: int) -> Stream:
        return next(s for s in self.streams if s.number == number)

    def copy_in(self, target: int, source: int, size: int, stream: Stream, keep: Any) -> None:
        self.need_context()
        self.check(target, size)
        self.copies.append("in")

        def work(_: Any = keep) -> None:
            self.check(target, size)
            ctypes.memmove(target, source, size)

        stream.add(work)

    def copy_out(self, target: int, source: int, size: int, stream: Stream, keep: Any) -> None:
        self.need_context()
        self.check(source, size)
        self.copies.append("out")

        def work(_: Any = keep) -> None:
            self.check(source, size)
            ctypes.memmove(target, source, size)

        stream.add(work)

    def zero(self, target: int, size: int, stream: Stream) -> None:
        self.need_context()
        self.check(target, size)
        stream.add(lambda: self.view(target, np.uint8, (size,)).fill(0))

    def record(self, event: Event, stream: Stream) -> None:
        self.need_context()
        if stream.capturing is not None:
            raise CudaRefused("STREAM_CAPTURE_UNSUPPORTED")

        def work() -> None:
            event.at = next(self.clock) * self.copy_ms

        stream.add(work)
        event.record = (stream, len(stream.work))

    def wait(self, stream: Stream, event: Event) -> None:
        self.need_context()
        record = event.record
        if record is not None:
            stream.add(lambda: record[0].run(record[1]))

    def synchronise_event(self, event: Event) -> None:
        self.need_context()
        if event.record is not None:
            event.record[0].run(event.record[1])

    def elapsed(self, start: Event, end: Event) -> float:
        self.need_context()
        if not (start.done() and end.done()):
            raise CudaRefused("NOT_READY")
        return end.at - start.at

    def launch(self, name: str, grid: Any, block: Any, argument: bytes, stream: Stream) -> None:
        self.need_context()
        self.launches.append(name)
        _, what, *ending = name.split("_")
        kernel = getattr(self, f"_{what}")
        dtype = {"f16": np.float16, "f32": np.float32}[ending[0]] if ending else None
        covered = (grid[0] * block[0], grid[1] * block[1])
        content = bytes(argument)
        stream.add(lambda: kernel(content, dtype, covered))

    def _prepare(self, argument: bytes, dtype: Any, covered: tuple[int, int]) -> None:
        v = PREPARE.unpack(argument)
        pitch, taps_x, taps_y, net_h, net_w, top, left, height, width, swap = v[6:16]
        assert covered[0] >= net_w and covered[1] >= net_h
        columns, rows = self.view(v[2], "i4", (width, 2)), self.view(v[4], "i4", (height, 2))
        source = (int(rows.sum(1).max()), int(columns.sum(1).max()))
        tables = Tables(
            columns, self.view(v[3], "i4", (width, taps_x)),
            rows, self.view(v[5], "i4", (height, taps_y)), *([np.zeros(0)] * 4),
        )  # type: ignore[arg-type]  # fmt: skip
        pixels = self.view(v[0], np.uint8, (source[0], pitch))[:, : 3 * source[1]]
        planes = frame_twin.prepare(
            pixels.reshape(*source, 3),
            Placement(source, (net_h, net_w), top, left, (height, width)),
            tables,
            np.array(v[16:19], np.float32),
            np.array(v[19:22], np.float32),
            swap=bool(swap),
        )
        self.view(v[1], dtype, (3, net_h, net_w))[...] = planes

    def _vote(self, argument: bytes, dtype: Any, covered: tuple[int, int]) -> None:
        v = VOTE.unpack(argument)
        chunk_elements, chunk, classes, dec_h, dec_w, height, width = v[9:]
        assert covered[0] >= width and covered[1] >= height
        first = self.view(v[5], "i4", (classes + 1,))
        size = np.dtype(dtype).itemsize
        logits = np.stack([
            self.view(
                v[0] + ((s // chunk) * chunk_elements + (s % chunk) * 2 * dec_h * dec_w) * size,
                dtype, (2, dec_h, dec_w),
            )
            for s in range(first[-1])
        ])  # fmt: skip
        none = np.zeros((0, 2), np.int32)
        tables = Tables(
            none, none, none, none,
            self.view(v[1], "i4", (width,)), self.view(v[2], "f4", (width,)),
            self.view(v[3], "i4", (height,)), self.view(v[4], "f4", (height,)),
        )  # fmt: skip
        votes, scores, largest = frame_twin.vote(logits, list(np.diff(first)), tables)
        self.view(v[6], np.uint16, votes.shape)[...] = votes
        if v[7]:
            self.view(v[7], np.float32, scores.shape)[...] = scores
        tally = self.view(v[8], np.int32, largest.shape)
        np.maximum(tally, largest, out=tally)

    def _spin(self, argument: bytes, _: Any, covered: tuple[int, int]) -> None:
        assert len(argument) == 8

    def _settle(self, argument: bytes, _: Any, covered: tuple[int, int]) -> None:
        votes_at, scores_at, tally_at, labels_at, masks_at, classes, count = SETTLE.unpack(argument)
        assert covered[0] >= count
        shape = (classes, 1, count)
        scores = self.view(scores_at, np.float32, shape) if scores_at else None
        masks, labels = frame_twin.settle(
            self.view(votes_at, np.uint16, shape), scores,
            self.view(tally_at, np.int32, (classes + 1,)),
        )  # fmt: skip
        self.view(labels_at, np.uint8, (1, count))[...] = labels
        if masks_at:
            self.view(masks_at, np.uint8, shape)[...] = masks

    def begin_capture(self, stream: Stream) -> None:
        self.need_context()
        stream.capturing = []

    def end_capture(self, stream: Stream) -> list[Callable[[], None]]:
        work, stream.capturing = stream.capturing, None
        if work is None:
            raise CudaRefused("INVALID_VALUE")
        return work

    def settled(self) -> bool:
        """Nothing is left: no memory, no context on a thread, no hold on the GPU."""
        return not (self.device or self.host or any(self.depth.values()) or self.retained)


assert struct.calcsize("P") == 8
