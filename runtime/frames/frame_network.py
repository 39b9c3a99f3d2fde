"""From a frame's pixels to its logits, on the GPU: preprocess, features, match, likeness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.device.memory import Block
from hsnet_trt.runtime.frames.device_graph import DeviceGraph
from hsnet_trt.runtime.frames.frame_kernels import LIKENESS, PREPARE, FrameKernels
from hsnet_trt.runtime.frames.frame_slot import Slot
from hsnet_trt.runtime.frames.frame_supports import GpuSupports
from hsnet_trt.runtime.frames.frame_table_cache import TableCache
from hsnet_trt.runtime.frames.graph_replay import GraphReplay
from hsnet_trt.runtime.matching.graphs import FEATURES, Tensors
from hsnet_trt.runtime.pictures.preprocess import Placement, normalisation, place


class FrameNetwork:
    """The kernels before and after the network, and the network. Its owner locks it.

    The context must be current for every call but `place` and `forget`.
    """

    def __init__(
        self,
        cuda: Cuda,
        engines: Mapping[str, DeviceGraph],
        arena: Block,
        preprocessing: Preprocessing,
        kernels: FrameKernels,
        tables: TableCache,
        stream: Any,
    ) -> None:
        """Set up.

        Args:
            cuda: the driver.
            engines: the graphs "features" and "match".
            arena: memory of their tensors.
            preprocessing: the bundle's normalisation and resize policy.
            kernels: the loaded kernels.
            tables: lookup tables by placement.
            stream: where the work is queued.
        """
        self._cuda, self._arena, self._stream = cuda, arena, stream
        self._features, self._match = engines["features"], engines["match"]
        self._kernels, self._tables = kernels, tables
        self._scale, self._shift = normalisation(preprocessing)
        self._policy = preprocessing.resize
        _, _, height, width = self._features.most["image"]
        self._size = (height, width)
        self._replay = GraphReplay(cuda, stream, wanted=self._features.capturable)
        self._featured: Slot | None = None  # whose features are in the arena

    def place(self, size: tuple[int, int]) -> Placement:
        """Where a photograph of that height and width is in the network's input."""
        return place(size, self._size, self._policy)

    def run(
        self,
        slot: Slot,
        size: tuple[int, int],
        classes: int,
        supports: GpuSupports,
        key: str,
    ) -> None:
        """Enqueue the network for a slot's frame.

        The logits go to the supports' memory, the objects' matches to `slot.counts`.

        Args:
            slot: fitted to the frame; in this stream's order, its pixels are uploaded by now.
            size: height and width of the matched frame or window, whose pixels start at
                `slot.first`.
            classes: how many.
            supports: the support set on the GPU.
            key: of the CUDA graph for that set's memory.
        """
        cuda, stream, event = self._cuda, self._stream, slot.events
        cuda.record(event["turn"], stream)
        self.prepare(slot, self.place(size), slot.first)
        cuda.record(event["prepared"], stream)
        self._run_features()
        self._featured = slot
        cuda.record(event["featured"], stream)
        supports.shape()
        version = (self._match.shaped, supports.version)
        self._replay.run(key, version, supports.run_chunks)
        cuda.record(event["matched"], stream)
        cuda.zero(slot.counts.address, slot.counted, stream)
        self._compare_objects(slot.counts.address + 4 * (classes + 1), supports)

    def prepare(self, slot: Slot, placement: Placement, first: int = 0) -> None:
        """Enqueue the preprocessing of a slot's pixels, from byte `first` on, into the arena."""
        tables, taps = self._tables.of(placement)
        argument = PREPARE.pack(
            slot.pixels.address + first,
            self._arena.at("image"),
            *(tables.at(name) for name in ("columns", "column_taps", "rows", "row_taps")),
            slot.pitch,
            taps.column_taps.shape[1],
            taps.row_taps.shape[1],
            *self._size,
            placement.top,
            placement.left,
            *placement.content,
            slot.bgr,
            *self._scale,
            *self._shift,
        )
        height, width = self._size
        dtype = self._features.types["image"]
        self._kernels.prepare(dtype, width, height, argument, self._stream)

    def features(self, slot: Slot, size: tuple[int, int]) -> Tensors:
        """Wait for the features of the frame in a slot, each [1,L,C,row].

        They are in the arena, unless something else ran since; then they are computed again, from
        the pixels in the slot.
        """
        if self._featured is not slot:
            self.prepare(slot, self.place(size), slot.first)
            self._run_features()
            self._featured = slot
        found = {}
        for name in FEATURES:
            shape = (1, *self._features.output_shape(name)[1:])
            found[name] = np.empty(shape, self._features.types[name])
            self._cuda.download(found[name], self._arena.at(name), self._stream)
        self._cuda.synchronise(self._stream)
        return found

    def forget(self) -> None:
        """Note that the arena's features are about to be overwritten."""
        self._featured = None

    def close(self) -> None:
        """Destroy the captured graphs; none may still run."""
        self._replay.close()

    def _run_features(self) -> None:
        engine = self._features
        for name in engine.types:
            engine.bind(name, self._arena.at(name))
        engine.shape({"image": (max(1, engine.least["image"][0]), *engine.most["image"][1:])})
        self._replay.run("features", engine.shaped, lambda launch: launch(engine))

    def _compare_objects(self, best: int, supports: GpuSupports) -> None:
        """The best match of each object's vector, at `best`; see `matching.presence`."""
        engine = self._features
        dtype, (layers, channels, positions) = engine.types["f4"], engine.most["f4"][1:]
        last = (layers - 1) * channels * positions * dtype.itemsize
        features, count = self._arena.at("f4") + last, supports.vectors
        argument = LIKENESS.pack(features, supports.objects, best, channels, positions, count)
        self._kernels.likeness(dtype, positions, count, argument, self._stream)
