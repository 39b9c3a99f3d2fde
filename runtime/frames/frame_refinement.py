"""Masks that follow the picture's edges, on the GPU: see `pictures.guided_filter`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.device.memory import Block
from hsnet_trt.runtime.frames.device_graph import DeviceGraph
from hsnet_trt.runtime.frames.frame_drawing import FrameDrawing, OwnLogits
from hsnet_trt.runtime.frames.frame_kernels import (
    COLOUR,
    FIT,
    GUIDE,
    REFINE,
    FrameKernels,
    histogram_bytes,
)
from hsnet_trt.runtime.frames.frame_slot import Slot
from hsnet_trt.runtime.frames.frame_supports import GpuSupports
from hsnet_trt.runtime.frames.frame_table_cache import TableCache
from hsnet_trt.runtime.pictures.colour_model import MOST, RAREST, SURE, WEIGHT
from hsnet_trt.runtime.pictures.guided_filter import EPSILON, FINER, SUREST, radius
from hsnet_trt.runtime.pictures.preprocess import Placement


class FrameRefinement:
    """The kernels between the network and the drawing. Not thread-safe: its owner locks it.

    Nothing is allocated before a frame is refined.
    """

    def __init__(
        self,
        cuda: Cuda,
        engines: Mapping[str, DeviceGraph],
        image: int,
        preprocessing: Preprocessing,
        kernels: FrameKernels,
        stream: Any,
    ) -> None:
        """Set up.

        Args:
            cuda: the driver.
            engines: the graphs "features" and "match".
            image: the address of the network's input.
            preprocessing: how it is normalised.
            kernels: the loaded kernels.
            stream: where the work is queued.
        """
        self._cuda, self._kernels, self._stream = cuda, kernels, stream
        self._image, self._preprocessing = image, preprocessing
        self._image_type = engines["features"].types["image"]
        self._logits_type = engines["match"].types["logits"]
        self._network = tuple(engines["features"].most["image"][2:])
        height, width = engines["match"].most["logits"][3:]
        self._decoder, self._fine = (height, width), (FINER * height, FINER * width)
        self._radii = radius(height), radius(width)
        self._tables = TableCache(cuda, self._fine, stream)
        self._drawing = FrameDrawing(
            cuda, kernels, self._tables, self._fine, np.dtype(np.float32), stream
        )
        self._block: Block | None = None

    def look(self, slot: Slot) -> None:
        """Enqueue the computation of the refinement's guide from the network's input."""
        positions = self._decoder[0] * self._decoder[1]
        if slot.guide is None:
            sizes = {"fine": 12 * FINER**2 * positions, "guide": 12 * positions}
            slot.guide = Block(self._cuda, sizes)
        addresses = (self._image, slot.guide.at("fine"), slot.guide.at("guide"))
        argument = GUIDE.pack(*addresses, *self._network, *self._decoder, *self._preprocessing.std)
        height, width = self._fine
        self._kernels.guide(self._image_type, width, height, argument, self._stream)

    def draw(
        self,
        slot: Slot,
        classes: int,
        shots: int,
        logits: GpuSupports | OwnLogits,
        placement: Placement,
    ) -> None:
        """Enqueue: refine the logits of so many shots and draw them; see `FrameDrawing.draw`."""
        positions = self._decoder[0] * self._decoder[1]
        block = self._memory(shots, positions)
        assert slot.guide is not None, "the frame was not looked at"
        self._cuda.zero(block.at("counts"), histogram_bytes(shots), self._stream)
        argument = COLOUR.pack(
            logits.logits,
            slot.guide.at("guide"),
            block.at("counts"),
            block.at("values"),
            slot.counts.address + 4 * classes,
            logits.chunk_elements,
            logits.chunk,
            *self._decoder,
            *self._preprocessing.mean,
            WEIGHT,
            SURE,
            RAREST,
            MOST,
        )
        self._kernels.weigh(self._logits_type, positions, shots, argument, self._stream)
        argument = FIT.pack(
            block.at("values"),
            slot.guide.at("guide"),
            block.at("lines"),
            *self._decoder,
            *self._radii,
            EPSILON,
        )
        self._kernels.fit(positions, shots, argument, self._stream)
        argument = REFINE.pack(
            block.at("lines"),
            slot.guide.at("fine"),
            block.at("logits"),
            *self._decoder,
            *self._radii,
            SUREST,
        )
        self._kernels.refine(FINER**2 * positions, shots, argument, self._stream)
        refined = OwnLogits(block.at("logits"), logits.first, shots, 0)
        self._drawing.draw(slot, classes, refined, placement)

    def _memory(self, shots: int, positions: int) -> Block:
        sizes = {"lines": 16 * shots * positions, "logits": 8 * shots * FINER**2 * positions}
        sizes |= {"counts": histogram_bytes(shots), "values": 4 * shots * positions}
        if self._block is None or self._block.sizes["lines"] < sizes["lines"]:
            self._cuda.synchronise(self._stream)
            if self._block is not None:
                self._block.free()
                self._block = None
            self._block = Block(self._cuda, sizes)
        return self._block

    def free(self) -> None:
        """Free the memory; no kernel may still use it."""
        if self._block is not None:
            self._block.free()
            self._block = None
        self._drawing.free()
        self._tables.free()
