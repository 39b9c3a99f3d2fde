"""A slot: the memory of one frame in flight, its pixels as input and its masks as output.

Each buffer is a pair of page-locked host memory and device memory; where the GPU can use the host's
memory directly (mapped), there is no device part. Buffers grow to the largest frame and are reused,
so nothing is allocated per frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.device.driver_types import Bytes, HostMemory
from hsnet_trt.runtime.device.memory import aligned

EVENTS = ("begun", "uploaded", "turn", "prepared", "featured", "matched", "settled", "done")


class Buffer:
    """Page-locked host memory and, unless it is mapped, device memory of the same size."""

    def __init__(self, cuda: Cuda, *, mapped: bool) -> None:
        self._cuda, self._mapped = cuda, mapped
        self._host: HostMemory | None = None
        self._device: int | None = None
        self.size = 0

    def grow(self, size: int) -> None:
        """Grow to at least `size` bytes; growing loses the content."""
        if size <= self.size:
            return
        self.free()
        size = aligned(size)
        self._host = self._cuda.allocate_host(size, mapped=self._mapped)
        if not self._mapped:
            self._device = self._cuda.allocate(size)
        self.size = size

    @property
    def host(self) -> Bytes:
        """The host's part, uint8 [size]."""
        assert self._host is not None
        return self._host.array

    @property
    def address(self) -> int:
        """The address that kernels use."""
        assert self._host is not None
        address = self._host.device_address if self._mapped else self._device
        assert address is not None
        return address

    def upload(self, size: int, stream: Any) -> None:
        """Copy the first `size` bytes to the device; no-op if mapped."""
        if not self._mapped:
            self._cuda.upload(self.address, self.host[:size], stream)

    def download(self, start: int, end: int, stream: Any) -> None:
        """Copy the bytes from `start` to `end` to the host; no-op if mapped."""
        if not self._mapped and end > start:
            self._cuda.download(self.host[start:end], self.address + start, stream)

    def free(self) -> None:
        """Free both parts; may be called again."""
        host, device = self._host, self._device
        self._host, self._device, self.size = None, None, 0
        if device is not None:
            self._cuda.free(device)
        if host is not None:
            self._cuda.free_host(host)


class Slot:
    """Memory and events of one frame in flight.

    Attributes:
        pixels: the frame, uint8 [H,W,3].
        answer: the output, its parts one after another, each aligned: `labels` uint8 [H,W], `masks`
            uint8 [classes,H,W] (only for several classes), `scores` float32 [classes,H,W] (only if
            needed).
        tally: the counts of the vote, int32 [classes + 1]: the largest vote of each class, then 1
            if some logit was not finite, else 0.
        events: CUDA events by name, recorded as the frame moves on.
        parts: offset and length in `answer` of each part, in bytes.
    """

    def __init__(self, cuda: Cuda, *, mapped: bool) -> None:
        self._cuda = cuda
        self.pixels = Buffer(cuda, mapped=mapped)
        self.answer = Buffer(cuda, mapped=mapped)
        # Not part of the answer: kernels update it atomically, which is slow in mapped memory.
        self.tally = Buffer(cuda, mapped=False)
        self.events = {name: cuda.event() for name in EVENTS}
        self.parts: dict[str, tuple[int, int]] = {}

    def fit(self, size: tuple[int, int], classes: int, *, masks: bool, scores: bool) -> None:
        """Grow to a frame of that height and width, and lay out its answer."""
        count = size[0] * size[1]
        wanted = {
            "labels": count,
            "masks": classes * count if masks else 0,
            "scores": 4 * classes * count if scores else 0,
        }
        end = 0
        for name, length in wanted.items():
            self.parts[name] = (end, length)
            end += aligned(length)
        self.pixels.grow(3 * count)
        self.answer.grow(end)
        self.tally.grow(4 * (classes + 1))

    def address(self, name: str) -> int:
        """The address of a part of the answer; 0 if this frame has no such part."""
        start, length = self.parts[name]
        return self.answer.address + start if length else 0

    def download(self, names: Sequence[str], stream: Any) -> None:
        """Copy parts of the answer to the host: one copy from the first to the last."""
        spans = [(self.parts[n][0], sum(self.parts[n])) for n in names if self.parts[n][1]]
        self.answer.download(spans[0][0], spans[-1][1], stream)

    def read(self, name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
        """A part of the downloaded answer, as an array of its own."""
        start, length = self.parts[name]
        return self.answer.host[start : start + length].view(dtype).reshape(shape).copy()

    def read_tally(self, classes: int) -> Any:
        """The downloaded `tally`, int32 [classes + 1], as an array of its own."""
        return self.tally.host[: 4 * (classes + 1)].view(np.int32).copy()

    def free(self) -> None:
        """Free the buffers and destroy the events; may be called again."""
        for buffer in (self.pixels, self.answer, self.tally):
            buffer.free()
        for event in self.events.values():
            self._cuda.destroy(event)
        self.events = {}
