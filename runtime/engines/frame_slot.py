"""The memory of one frame that is under way: its pixels in, its masks out.

Both lie in page-locked host memory and, unless kernels reach that directly (mapped), in device
memory too. It grows with the frame and is then used again: no allocation per frame.
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
    """Page-locked host memory with its counterpart for kernels."""

    def __init__(self, cuda: Cuda, *, mapped: bool) -> None:
        self._cuda, self._mapped = cuda, mapped
        self._host: HostMemory | None = None
        self._device: int | None = None
        self.size = 0

    def grow(self, size: int) -> None:
        """Be at least so large; what was in it is lost if it grows."""
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
        """uint8 [size], for the CPU."""
        assert self._host is not None
        return self._host.array

    @property
    def address(self) -> int:
        """Where kernels find it."""
        assert self._host is not None
        address = self._host.device_address if self._mapped else self._device
        assert address is not None
        return address

    def upload(self, size: int, stream: Any) -> None:
        """Bring the first bytes to the device; nothing where it is mapped."""
        if not self._mapped:
            self._cuda.upload(self.address, self.host[:size], stream)

    def download(self, start: int, end: int, stream: Any) -> None:
        """Bring those bytes to the host; nothing where it is mapped."""
        if not self._mapped and end > start:
            self._cuda.download(self.host[start:end], self.address + start, stream)

    def free(self) -> None:
        """Give both back; harmless when repeated."""
        host, device = self._host, self._device
        self._host, self._device, self.size = None, None, 0
        if device is not None:
            self._cuda.free(device)
        if host is not None:
            self._cuda.free_host(host)


class Slot:
    """One frame under way.

    What comes out, in this order, each part aligned: `tally` int32 [classes + 1], `labels` uint8
    [H,W], `masks` uint8 [classes,H,W] (several classes only), `scores` float32 [classes,H,W] (where
    they are needed).
    """

    def __init__(self, cuda: Cuda, *, mapped: bool) -> None:
        self._cuda = cuda
        self.pixels = Buffer(cuda, mapped=mapped)
        self.answer = Buffer(cuda, mapped=mapped)
        # Apart from the answer: kernels add to it atomically, which mapped memory is bad at.
        self.tally = Buffer(cuda, mapped=False)
        self.events = {name: cuda.event() for name in EVENTS}
        self.parts: dict[str, tuple[int, int]] = {}

    def fit(self, size: tuple[int, int], classes: int, *, masks: bool, scores: bool) -> None:
        """Be large enough for a frame of that height and width."""
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
        """Where kernels write that part; 0 where it is not wanted."""
        start, length = self.parts[name]
        return self.answer.address + start if length else 0

    def download(self, names: Sequence[str], stream: Any) -> None:
        """Bring parts to the host, neighbours in one copy."""
        spans = [(self.parts[n][0], sum(self.parts[n])) for n in names if self.parts[n][1]]
        self.answer.download(spans[0][0], spans[-1][1], stream)

    def read(self, name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
        """A copy of a part that was brought to the host."""
        start, length = self.parts[name]
        return self.answer.host[start : start + length].view(dtype).reshape(shape).copy()

    def read_tally(self, classes: int) -> Any:
        """The largest vote of each class, and whether something was not finite: int32."""
        return self.tally.host[: 4 * (classes + 1)].view(np.int32).copy()

    def free(self) -> None:
        """Give everything back; harmless when repeated."""
        for buffer in (self.pixels, self.answer, self.tally):
            buffer.free()
        for event in self.events.values():
            self._cuda.destroy(event)
        self.events = {}
