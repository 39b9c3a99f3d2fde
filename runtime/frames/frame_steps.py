"""The steps of a frame, each in its CUDA stream, and the events that order them.

There are three streams: one uploads pixels, one runs kernels and network, one downloads masks. So
the next frame is uploaded and the previous one downloaded while one is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.device.memory import Block, aligned
from hsnet_trt.runtime.frames.device_graph import DeviceGraph
from hsnet_trt.runtime.frames.frame_drawing import FrameDrawing, OwnLogits
from hsnet_trt.runtime.frames.frame_kernels import FrameKernels
from hsnet_trt.runtime.frames.frame_lane import Launched
from hsnet_trt.runtime.frames.frame_network import FrameNetwork
from hsnet_trt.runtime.frames.frame_refinement import FrameRefinement
from hsnet_trt.runtime.frames.frame_slot import Slot
from hsnet_trt.runtime.frames.frame_supports import GpuSupports
from hsnet_trt.runtime.frames.frame_table_cache import TableCache
from hsnet_trt.runtime.frames.host_mapping import mapping_pays
from hsnet_trt.runtime.matching.graphs import Tensors
from hsnet_trt.runtime.pictures.preprocess import Floats


class FrameSteps:
    """Kernels, network and streams. Its owner locks it; the context must be current.

    Attributes:
        upload: the stream that uploads.
        compute: the stream of kernels and network.
    """

    def __init__(
        self,
        cuda: Cuda,
        engines: Mapping[str, DeviceGraph],
        arena: Block,
        stream: Any,
        preprocessing: Preprocessing,
        kernels: FrameKernels,
    ) -> None:
        """Set up; `kernels` are closed with it. See `GpuFrames.open`."""
        self._cuda, self._kernels = cuda, kernels
        self.compute, self.upload, self._down = stream, cuda.stream(), cuda.stream()
        *_, height, width = engines["match"].most["logits"]
        self._decoder = (height, width)
        self._type = engines["match"].types["logits"]
        self._logits_bytes = 2 * height * width * self._type.itemsize  # of a shot
        self._tables = TableCache(cuda, self._decoder, stream)
        self._network = FrameNetwork(
            cuda, engines, arena, preprocessing, kernels, self._tables, stream
        )
        self._drawing = FrameDrawing(cuda, kernels, self._tables, self._decoder, self._type, stream)
        self._refinement = FrameRefinement(
            cuda, engines, arena.at("image"), preprocessing, kernels, stream
        )

    def mapping_pays(self) -> bool:
        """Whether kernels should use the host's memory directly; it is measured."""
        return mapping_pays(self._cuda, self._network, self._drawing, self.compute)

    def run_network(
        self,
        slot: Slot,
        size: tuple[int, int],
        drawn: tuple[int, int],
        classes: int,
        held: GpuSupports,
        where: str,
    ) -> None:
        """Enqueue all from the end of the upload to the logits.

        Args:
            slot: fitted to the frame, which is being uploaded.
            size: height and width of what the network is shown.
            drawn: height and width of what is drawn.
            classes: how many.
            held: the support set on the GPU.
            where: key of the CUDA graph for that set's memory.
        """
        self._cuda.record(slot.events["uploaded"], self.upload)
        self._cuda.wait(self.compute, slot.events["uploaded"])
        self._network.run(slot, size, classes, held, where)
        if slot.refine:
            if size != drawn:  # the guide is the whole frame; the network has read its window
                self._network.prepare(slot, self._network.place(drawn))
            self._refinement.look(slot)

    def draw(
        self,
        slot: Slot,
        size: tuple[int, int],
        classes: int,
        logits: GpuSupports | OwnLogits,
        shots: int,
        *,
        scores: bool,
    ) -> None:
        """Enqueue all from the logits to the downloaded answer."""
        cuda, compute, event = self._cuda, self.compute, slot.events
        cuda.record(event["drawn"], compute)
        placement = self._network.place(size)
        if slot.refine:
            self._refinement.draw(slot, classes, shots, logits, placement)
        else:
            self._drawing.draw(slot, classes, logits, placement)
        cuda.record(event["settled"], compute)
        cuda.wait(self._down, event["settled"])
        slot.counts.download(0, slot.counted, self._down)
        names = ("labels", "masks", "scores") if scores else ("labels", "masks")
        slot.download(names, self._down)
        cuda.record(event["done"], self._down)

    def fit_logits(self, slot: Slot, classes: int, shots: int) -> None:
        """Grow a slot's memory for the logits of its shots, and later for one plane per class."""
        own = aligned(classes * self._logits_bytes) + 4 * (classes + 1)
        slot.logits.grow(max(shots * self._logits_bytes, own))

    def download_logits(self, slot: Slot, held: GpuSupports, shots: int) -> None:
        """Enqueue the download of the logits of all shots."""
        # In the engines' stream, since the next frame's logits overwrite the same memory.
        for first, address, length in held.parts(shots):
            self._cuda.download(slot.logits.host[first : first + length], address, self.compute)
        slot.counts.download(0, slot.counted, self.compute)
        self._cuda.record(slot.events["done"], self.compute)

    def read_logits(self, slot: Slot, shots: int) -> Floats:
        """The downloaded logits, float32 [S,2,h,w]."""
        stored = slot.logits.host[: shots * self._logits_bytes].view(self._type)
        return stored.reshape(shots, 2, *self._decoder).astype(np.float32)

    def upload_logits(self, slot: Slot, logits: Floats) -> OwnLogits:
        """Enqueue the upload of other logits, [classes,2,h,w], and return where they will be."""
        classes, length = len(logits), logits.size * self._type.itemsize
        start = aligned(length)
        end = start + 4 * (classes + 1)
        slot.logits.host[:length].view(self._type)[:] = logits.ravel()
        slot.logits.host[start:end].view(np.int32)[:] = np.arange(classes + 1)
        slot.logits.upload(0, length, self.compute)
        slot.logits.upload(start, end, self.compute)
        address = slot.logits.address
        return OwnLogits(address, address + start, classes, logits.size)

    def features(self, slot: Slot, size: tuple[int, int]) -> Tensors:
        """Wait for the features of the frame in a slot, each [1,L,C,row]."""
        return self._network.features(slot, size)

    def forget_features(self) -> None:
        """Note that the arena's features are about to be overwritten."""
        self._network.forget()

    def timing(self, frame: Launched) -> dict[str, float]:
        """Milliseconds of a finished frame, by part."""

        def ms(start: str, end: str) -> float:
            return self._cuda.elapsed_ms(frame.slot.events[start], frame.slot.events[end])

        return {
            "preprocess": frame.staged_ms + ms("begun", "uploaded") + ms("turn", "prepared"),
            "features": ms("prepared", "featured"),
            "match": ms("featured", "matched"),
            "postprocess": ms("drawn", "done"),
        }

    def synchronise(self) -> None:
        """Wait for everything in the three streams."""
        for stream in (self.upload, self.compute, self._down):
            self._cuda.synchronise(stream)

    def close(self) -> None:
        """Free everything; nothing may still run. The stream of kernels and network stays."""
        self._network.close()
        self._tables.free()
        self._drawing.free()
        self._refinement.free()
        self._kernels.close()
        self._cuda.destroy(self.upload)
        self._cuda.destroy(self._down)
