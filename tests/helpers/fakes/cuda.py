"""A CUDA device that is not there, with the manners of a real one.

Memory is host memory at real addresses. Work in a stream is done as late as it may be: when
somebody waits for it, in the order that streams and events ask for and no other. So a missing
wait, a buffer used again too soon and memory freed too early show as wrong results or as errors.
Refused, as CUDA refuses it: no current context, a copy or a kernel's argument past the end of an
allocation, memory that was freed, allocating or waiting on a stream that is being captured.

Kernels are the real ones, compiled for the CPU: an image is what `emulated_frames.compile_frames`
gives. What they write outside an allocation shows when it is freed.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from helpers.kernels.emulated_frames import Kernel, find_kernel, open_image, reached

_device = threading.RLock()  # one device, whoever waits for it
_GUARD = b"\xab" * 512  # before and behind each allocation


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
        self.launches: list[tuple[str, bytes]] = []  # name and argument
        self.overrun = False  # whether something was written outside an allocation
        self.copy_ms = 1.0
        self.graphs: dict[int, Any] = {}  # captured or instantiated, by identity
        # The thread of a library that captures in the driver's global mode.
        self.capturing_globally: int | None = None

    def refuse_while_captured(self) -> None:
        """What another thread may not do while one captures in the global mode."""
        if self.capturing_globally not in (None, threading.get_ident()):
            raise CudaRefused("STREAM_CAPTURE_UNSUPPORTED")

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
        self.refuse_while_captured()
        if any(stream.capturing is not None for stream in self.streams):
            raise CudaRefused("STREAM_CAPTURE_UNSUPPORTED")
        if size <= 0:
            raise CudaRefused("INVALID_VALUE")
        if size > self.memory_left or size > 1 << 40:
            raise CudaRefused("OUT_OF_MEMORY")
        self.allocations += 1
        length = size + 2 * len(_GUARD)
        raw = ctypes.create_string_buffer(b"\xab" * length, length)  # not zeros
        address = -(-(ctypes.addressof(raw) + len(_GUARD) - 255) // 256) * 256
        where[address] = (raw, size)
        return address

    def free(self, address: int, where: dict[int, Any]) -> None:
        self.need_context()
        if address not in where:
            raise CudaRefused("INVALID_VALUE")
        raw, size = where.pop(address)
        start = address - ctypes.addressof(raw)
        self.overrun |= raw[:start] + raw[start + size :] != _GUARD + _GUARD
        self.graveyard.append(raw)

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
        self.refuse_while_captured()
        if event.record is not None:
            event.record[0].run(event.record[1])
        time.sleep(0.001)  # it still waits, and another thread's turn comes
        self.refuse_while_captured()

    def elapsed(self, start: Event, end: Event) -> float:
        self.need_context()
        self.refuse_while_captured()
        if not (start.done() and end.done()):
            raise CudaRefused("NOT_READY")
        return end.at - start.at

    def load(self, image: bytes) -> ctypes.CDLL:
        self.need_context()
        try:
            return open_image(bytes(image))
        except OSError as error:
            raise CudaRefused("INVALID_IMAGE") from error

    def kernel(self, module: ctypes.CDLL, name: str) -> Kernel:
        self.need_context()
        found = find_kernel(module, name)
        if found is None:
            raise CudaRefused("NOT_FOUND")
        return found

    def launch(self, kernel: Kernel, grid: Any, block: Any, argument: bytes, stream: Any) -> None:
        self.need_context()
        if not all(1 <= side <= most for side, most in zip(grid, (2**31 - 1, 65535), strict=False)):
            raise CudaRefused("INVALID_VALUE")
        content = bytes(argument)
        self.launches.append((kernel.name, content))

        def work() -> None:
            for address, size in reached(kernel.name, content, self.view):
                self.check(address, size)
            kernel.launch(grid, block, content)

        stream.add(work)

    def begin_capture(self, stream: Stream) -> None:
        self.need_context()
        stream.capturing = []

    def end_capture(self, stream: Stream) -> list[Callable[[], None]]:
        work, stream.capturing = stream.capturing, None
        if work is None:
            raise CudaRefused("INVALID_VALUE")
        return self.make_graph(work)

    def make_graph(self, work: list[Callable[[], None]]) -> list[Callable[[], None]]:
        self.need_context()
        graph = list(work)
        self.graphs[id(graph)] = graph
        return graph

    def destroy_graph(self, graph: list[Callable[[], None]]) -> None:
        self.need_context()
        if self.graphs.pop(id(graph), None) is None:
            raise CudaRefused("INVALID_VALUE")

    def settled(self) -> bool:
        """Nothing is left: no memory, no graph, no context on a thread, no hold on the GPU; none of
        the memory was hurt."""
        left = self.device or self.host or any(self.depth.values()) or self.retained or self.graphs
        return not (left or self.overrun)
