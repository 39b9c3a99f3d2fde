"""The memory of one frame that is under way: its pixels in, its masks out.

Both lie in page-locked host memory and, unless kernels reach that directly (mapped), in device
memory too. It grows with the frame and is then used again: no allocation per frame.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device.driver import Bytes, Cuda, HostMemory
from hsnet_trt.runtime.device.memory import aligned

_STRIPE, _MOST_STRIPES = 512 * 1024, 8  # bytes; each upload costs the CPU some microseconds

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
    def mapped(self) -> bool:
        """Whether kernels use the host's memory directly."""
        return self._mapped

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

    def upload(self, start: int, end: int, stream: Any) -> None:
        """Copy the bytes from `start` to `end` to the device; no-op if mapped."""
        if not self._mapped and end > start:
            self._cuda.upload(self.address + start, self.host[start:end], stream)

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

    def bring(self, pixels: npt.NDArray[np.uint8], stream: Any, lock: Any) -> float:
        """Copy a frame into page-locked memory and upload it, in stripes of whole rows.

        The GPU fetches one stripe while the CPU copies the next. Records the event "begun".

        Args:
            pixels: uint8 [H,W,3]; its rows may be padded.
            stream: the stream that uploads; "uploaded" is for the caller to record.
            lock: held while work is enqueued. While another thread holds it, copying goes on, and
                what was copied is uploaded later.

        Returns:
            Milliseconds of copying before "begun".

        Raises:
            BackendError: CUDA failed, or the slot was freed meanwhile.
        """
        clock, staged = time.perf_counter(), 0.0
        row, sent, copied = pixels[0].size, 0, 0
        host = self.pixels.host[: pixels.size].reshape(pixels.shape)
        try:
            for end in self._stripes(len(pixels), row):
                np.copyto(host[copied:end], pixels[copied:end])
                copied = end
                if sent == 0:
                    staged = 1000 * (time.perf_counter() - clock)
                if not lock.acquire(blocking=copied == len(pixels)):
                    continue
                try:
                    if not self.events:
                        raise BackendError("the segmenter was closed while a frame was under way")
                    if sent == 0:
                        self._cuda.record(self.events["begun"], stream)
                    self.pixels.upload(sent * row, copied * row, stream)
                    sent = copied
                finally:
                    lock.release()
        except BaseException:
            with lock:
                if self.events:  # nothing may still read the slot when it is used again
                    self._cuda.synchronise(stream)
            raise
        return staged

    def _stripes(self, rows: int, row: int) -> list[int]:
        """Where each stripe ends, in rows; one stripe if there is nothing to upload."""
        count = 1 if self.pixels.mapped else min(_MOST_STRIPES, rows, max(1, rows * row // _STRIPE))
        return [rows * (index + 1) // count for index in range(count)]

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
