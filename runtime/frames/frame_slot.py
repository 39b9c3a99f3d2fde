"""A slot: the memory of one frame in flight, its pixels as input and its masks as output.

Each buffer is a pair of page-locked host memory and device memory; where the GPU can use the host's
memory directly (mapped), there is no device part. Buffers grow to the largest frame and are reused,
so nothing is allocated per frame.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.device.driver_types import Bytes, HostMemory
from hsnet_trt.runtime.device.gpu_lock import GpuLock
from hsnet_trt.runtime.device.memory import Block, aligned

_STRIPE, _MOST_STRIPES = 512 * 1024, 8  # bytes; each upload costs the CPU some microseconds

EVENTS = (
    "begun", "uploaded", "turn", "prepared", "featured", "matched", "drawn", "settled", "done",
)  # fmt: skip


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
    def mapped(self) -> bool:
        """Whether kernels use the host's memory directly."""
        return self._mapped

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

    def upload(self, start: int, end: int, stream: Any) -> None:
        """Copy the bytes from `start` to `end` to the device; no-op if mapped."""
        if not self._mapped and end > start:
            self._cuda.upload(self.address + start, self.host[start:end], stream)

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
        counts: int32 [classes + 1], the largest vote of each class, then 1 if some logit was not
            finite, else 0; then float32 [N], the match of each object's vector.
        counted: bytes of `counts` that are used.
        logits: of a matched frame, as the engine writes them; later those that are drawn,
            [classes,2,h,w], and int32 [classes + 1], 0, 1, 2, ...
        events: CUDA events by name, recorded as the frame proceeds.
        bgr: whether the stored pixels are BGR.
        pitch: bytes from one of their rows to the next.
        first: offset in bytes of the first pixel of the matched frame or window.
        refine: whether its masks are refined (`frame_refinement`).
        guide: the colours that guide the refinement; None before the first frame.
        parts: offset and length in `answer` of each part, in bytes.
    """

    def __init__(self, cuda: Cuda, *, mapped: bool, refine: bool = False) -> None:
        self._cuda, self.refine = cuda, refine
        self.guide: Block | None = None
        self.pixels = Buffer(cuda, mapped=mapped)
        self.answer = Buffer(cuda, mapped=mapped)
        # Not part of the answer: kernels update it atomically, which is slow in mapped memory.
        self.counts = Buffer(cuda, mapped=False)
        self.logits = Buffer(cuda, mapped=False)
        self.events = {name: cuda.event() for name in EVENTS}
        self.bgr = False
        self.pitch = self.first = 0
        self.counted = 0
        self.parts: dict[str, tuple[int, int]] = {}

    def fit(
        self, size: tuple[int, int], classes: int, compared: int, *, masks: bool, scores: bool
    ) -> None:
        """Grow to a frame of that height and width, and lay out its answer.

        Args:
            size: height and width.
            classes: how many.
            compared: vectors of objects.
            masks: whether it has masks of several classes.
            scores: whether it has scores.
        """
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
        self.counted = 4 * (classes + 1 + compared)
        self.counts.grow(self.counted)

    def bring(self, pixels: npt.NDArray[np.uint8], stream: Any, lock: GpuLock) -> float:
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
        self.pitch = row
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

    def read_counts(self, classes: int) -> tuple[Any, Any]:
        """The downloaded `counts`: those of the vote, int32 [classes + 1], and float32 [N]."""
        counts = self.counts.host[: self.counted].view(np.int32).copy()
        return counts[: classes + 1], counts[classes + 1 :].view(np.float32)

    def free(self) -> None:
        """Free the buffers and destroy the events; may be called again."""
        for buffer in (self.pixels, self.answer, self.counts, self.logits):
            buffer.free()
        if self.guide is not None:
            self.guide.free()
            self.guide = None
        for event in self.events.values():
            self._cuda.destroy(event)
        self.events = {}
