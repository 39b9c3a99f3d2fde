"""Segments frames wholly on the GPU: upload pixels, run kernels and network, download masks.

There are three CUDA streams: one uploads pixels, one runs kernels and network, one downloads masks.
So the next frame is uploaded and the previous one downloaded while one is computed. Each frame in
flight has its own memory, a slot; each caller has a lane, a queue with a few slots (`frame_lane`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.device.gpu_lock import GpuLock
from hsnet_trt.runtime.device.memory import Block
from hsnet_trt.runtime.engines.device_graph import DeviceGraph
from hsnet_trt.runtime.engines.frame_kernels import (
    LIKENESS,
    PREPARE,
    SETTLE,
    VOTE,
    FrameKernels,
)
from hsnet_trt.runtime.engines.frame_lane import Lane, Launched
from hsnet_trt.runtime.engines.frame_slot import Slot
from hsnet_trt.runtime.engines.frame_supports import GpuSupports
from hsnet_trt.runtime.engines.frame_table_cache import TableCache
from hsnet_trt.runtime.engines.graph_replay import GraphReplay
from hsnet_trt.runtime.matching.graphs import (
    COLUMN_INPUTS,
    FEATURES,
    FrameAnswer,
    Tensors,
    not_finite,
)
from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.pictures.preprocess import Placement, normalisation, place

_log = logging.getLogger("hsnet_trt.tensorrt")


class GpuFrames:
    """The frame kernels, the network and the support set on one GPU. Thread-safe.

    Attributes:
        columns: whether the supports are taken as columns.
        mapped: whether kernels use the host's memory directly, without copies.
    """

    def __init__(
        self,
        cuda: Cuda,
        engines: Mapping[str, DeviceGraph],
        arena: Block,
        stream: Any,
        lock: GpuLock,
        preprocessing: Preprocessing,
        kernels: FrameKernels,
    ) -> None:
        """Use `GpuFrames.open`."""
        self._cuda, self._engines, self._arena, self._lock = cuda, engines, arena, lock
        self._kernels = kernels
        self._compute, self._up, self._down = stream, cuda.stream(), cuda.stream()
        self._scale, self._shift = normalisation(preprocessing)
        self._policy = preprocessing.resize
        _, _, height, width = engines["features"].most["image"]
        self._network = (height, width)
        *_, height, width = engines["match"].most["logits"]
        self._decoder = (height, width)
        self._supports = GpuSupports(cuda, engines["match"], arena)
        self.columns = COLUMN_INPUTS[-1] in engines["match"].most
        self._tables = TableCache(cuda, self._decoder, stream)
        self._votes: Block | None = None
        self._slots: list[Slot] = []
        self._replay = GraphReplay(cuda, stream, wanted=engines["features"].capturable)
        self.mapped = False
        self._closed = False

    @classmethod
    def open(
        cls,
        cuda: Cuda,
        engines: Mapping[str, DeviceGraph],
        arena: Block,
        stream: Any,
        lock: GpuLock,
        preprocessing: Preprocessing,
        image: bytes | None,
    ) -> GpuFrames | None:
        """Load the kernels; None if there are none or the types of two graphs differ.

        Args:
            cuda: the driver; its context must be current.
            engines: the graphs "features" and "match".
            arena: memory of their tensors.
            stream: the stream in which they run.
            lock: held while work is enqueued.
            preprocessing: the bundle's normalisation and resize policy.
            image: the compiled kernels, as `frame_kernels.find_kernels` returns them.

        Raises:
            BackendError: the kernels hold no code for this GPU.
        """
        if image is None:
            return None
        features, match = engines["features"], engines["match"]
        if any(features.types[n] != match.types[n] for n in FEATURES):
            _log.info("frames go through the CPU: features and match are of different types")
            return None
        kernels = FrameKernels(cuda, image)
        frames = cls(cuda, engines, arena, stream, lock, preprocessing, kernels)
        if cuda.facts.integrated and cuda.facts.maps_host_memory:
            frames.mapped = frames._mapping_pays()
        return frames

    def open_lane(self, slots: int) -> Lane:
        """Make a lane and allocate `slots` slots: as many of its frames may be in flight."""
        with self._cuda.current():
            return Lane(self, slots)

    def make_slot(self) -> Slot:
        """Make a slot, still without memory; the context must be current."""
        with self._lock:
            slot = Slot(self._cuda, mapped=self.mapped)
            self._slots.append(slot)
        return slot

    def drop(self, slots: list[Slot]) -> None:
        """Free slots; no frame may still use them."""
        with self._lock:
            if self._closed:
                return
            with self._cuda.current():
                for slot in slots:
                    self._slots.remove(slot)
                    slot.free()

    def start(
        self, slot: Slot, pixels: Pixels, supports: Tensors, shots: Sequence[int], *, scores: bool
    ) -> Launched:
        """See `Lane.submit`."""
        size, classes, count = (pixels.shape[0], pixels.shape[1]), len(shots), sum(shots)
        with self._cuda.current():
            # Which class wins where masks overlap is settled by their scores.
            wanted = scores or classes > 1
            with self._lock:
                slot.fit(size, classes, count, masks=classes > 1, scores=wanted)
            # The only copy on the host. It drops the padding of rows; BGR stays BGR.
            swap = pixels.strides[2] < 0
            stored = pixels[:, :, ::-1] if swap else pixels
            staged = slot.bring(stored, self._up, self._lock)
            with self._lock:
                if self._closed:
                    raise BackendError("the segmenter was closed while a frame was under way")
                try:
                    self._supports.hold(supports, shots, self._compute)
                    self._enqueue(slot, size, shots, swap=swap, scores=scores)
                except BaseException:
                    # Nothing of this frame may still run when its slot is used again.
                    for stream in (self._up, self._compute, self._down):
                        self._cuda.synchronise(stream)
                    raise
        return Launched(slot, size, classes, count, scores, staged)

    def await_done(self, frame: Launched) -> None:
        """Wait until the GPU has finished a frame."""
        with self._lock.waiting(), self._cuda.current():
            if self._closed:
                raise BackendError("the segmenter was closed while a frame was under way")
            self._cuda.synchronise(frame.slot.events["done"])

    def finish(self, frame: Launched) -> FrameAnswer:
        """See `SlotFrame.collect`."""
        slot, classes = frame.slot, frame.classes
        self.await_done(frame)
        with self._lock.waiting(), self._cuda.current():
            timing = self._timing(frame)
        counts, alike = slot.read_counts(classes, frame.shots)
        if counts[classes]:
            raise not_finite("on the GPU")
        labels = slot.read("labels", np.uint8, frame.size)
        planes = (classes, *frame.size)
        masks = list(slot.read("masks", np.bool_, planes)) if classes > 1 else [labels.view(bool)]
        scores = list(slot.read("scores", np.float32, planes)) if frame.scores else []
        return FrameAnswer(labels, masks, scores, timing, alike)

    def close(self) -> None:
        """Wait for the frames in flight and free everything; the context must be current."""
        if self._closed:
            return
        self._closed = True
        for stream in (self._up, self._compute, self._down):
            self._cuda.synchronise(stream)
        self._replay.close()
        for held in (*self._slots, self._tables, self._supports, self._votes):
            if held is not None:
                held.free()
        self._slots.clear()
        self._kernels.close()
        self._cuda.destroy(self._up)
        self._cuda.destroy(self._down)
        self._up = self._down = self._compute = None

    def _enqueue(
        self, slot: Slot, size: tuple[int, int], shots: Sequence[int], *, swap: bool, scores: bool
    ) -> None:
        cuda, compute, event = self._cuda, self._compute, slot.events
        placement = place(size, self._network, self._policy)
        tables, _ = self._tables.of(placement)
        cuda.record(event["uploaded"], self._up)
        cuda.wait(compute, event["uploaded"])
        cuda.record(event["turn"], compute)
        self._prepare(slot, placement, swap=swap)
        cuda.record(event["prepared"], compute)
        self._run_features()
        cuda.record(event["featured"], compute)
        self._run_match()
        cuda.record(event["matched"], compute)
        self._vote_and_settle(slot, size, shots, tables)
        cuda.record(event["settled"], compute)
        cuda.wait(self._down, event["settled"])
        slot.counts.download(0, 4 * (len(shots) + 1 + sum(shots)), self._down)
        names = ("labels", "masks", "scores") if scores else ("labels", "masks")
        slot.download(names, self._down)
        cuda.record(event["done"], self._down)

    def _prepare(self, slot: Slot, placement: Placement, *, swap: bool = False) -> None:
        engine = self._engines["features"]
        tables, taps = self._tables.of(placement)
        (top, left), (height, width) = (placement.top, placement.left), placement.content
        argument = PREPARE.pack(
            slot.pixels.address,
            self._arena.at("image"),
            *(tables.at(name) for name in ("columns", "column_taps", "rows", "row_taps")),
            3 * placement.source[1],
            taps.column_taps.shape[1],
            taps.row_taps.shape[1],
            *self._network,
            top,
            left,
            height,
            width,
            swap,
            *self._scale,
            *self._shift,
        )
        self._kernels.prepare(
            engine.types["image"], self._network[1], self._network[0], argument, self._compute
        )

    def _run_features(self) -> None:
        engine = self._engines["features"]
        for name in engine.types:
            engine.bind(name, self._arena.at(name))
        engine.shape({"image": (max(1, engine.least["image"][0]), *engine.most["image"][1:])})
        self._replay.run("features", engine.shaped, lambda launch: launch(engine))

    def _run_match(self) -> None:
        engine = self._engines["match"]
        self._supports.shape()
        self._replay.run(
            "match",
            (engine.shaped, self._supports.version),
            self._supports.run_chunks,
        )

    def _vote_and_settle(
        self, slot: Slot, size: tuple[int, int], shots: Sequence[int], tables: Block
    ) -> None:
        cuda, (height, width), classes = self._cuda, size, len(shots)
        needed = 2 * classes * height * width
        if self._votes is None or self._votes.bytes < needed:
            cuda.synchronise(self._compute)
            if self._votes is not None:
                self._votes.free()
                self._votes = None
            self._votes = Block(cuda, {"votes": needed})
        votes, scores = self._votes.at("votes"), slot.address("scores")
        cuda.zero(slot.counts.address, 4 * (classes + 1 + sum(shots)), self._compute)
        self._compare_objects(slot.counts.address + 4 * (classes + 1), sum(shots))
        supports = self._supports
        argument = VOTE.pack(
            supports.logits,
            *(tables.at(n) for n in ("low_x", "along_x", "low_y", "along_y")),
            supports.first,
            votes,
            scores,
            slot.counts.address,
            supports.chunk_elements,
            supports.chunk,
            classes,
            *self._decoder,
            height,
            width,
        )
        dtype = self._engines["match"].types["logits"]
        self._kernels.vote(dtype, width, height, argument, self._compute)
        argument = SETTLE.pack(
            votes,
            scores,
            slot.counts.address,
            slot.address("labels"),
            slot.address("masks"),
            classes,
            height * width,
        )
        self._kernels.settle(height * width, argument, self._compute)

    def _compare_objects(self, best: int, shots: int) -> None:
        """How like each shot's object the frame is, at `best`; see `matching.presence`."""
        engine = self._engines["features"]
        dtype, (layers, channels, positions) = engine.types["f4"], engine.most["f4"][1:]
        last = (layers - 1) * channels * positions * dtype.itemsize
        features = self._arena.at("f4") + last
        argument = LIKENESS.pack(features, self._supports.objects, best, channels, positions)
        self._kernels.likeness(dtype, positions, shots, argument, self._compute)

    def _mapping_pays(self) -> bool:
        """Whether mapped memory is faster than copies, measured on a frame of 1280 x 720."""
        size, cuda = (720, 1280), self._cuda
        placement = place(size, self._network, self._policy)
        self._tables.of(placement)  # uploaded before the clock starts
        best = {}
        for mapped in (False, True):
            slot = Slot(cuda, mapped=mapped)
            slot.fit(size, 1, 1, masks=False, scores=False)
            times = []
            for _ in range(5):
                cuda.record(slot.events["begun"], self._compute)
                slot.pixels.upload(0, 3 * size[0] * size[1], self._compute)
                self._prepare(slot, placement)
                # Stands for a mask: the same kernel writes as many bytes.
                self._settle_nothing(slot, size)
                slot.download(("labels",), self._compute)
                cuda.record(slot.events["done"], self._compute)
                cuda.synchronise(slot.events["done"])
                times.append(cuda.elapsed_ms(slot.events["begun"], slot.events["done"]))
            slot.free()
            best[mapped] = min(times)
        _log.info(
            "a frame's pixels and mask: %.2f ms copied, %.2f ms mapped", best[False], best[True]
        )
        return best[True] < best[False]

    def _settle_nothing(self, slot: Slot, size: tuple[int, int]) -> None:
        count = size[0] * size[1]
        if self._votes is None or self._votes.bytes < 2 * count:
            self._votes = Block(self._cuda, {"votes": 2 * count})
        self._cuda.zero(slot.counts.address, 8, self._compute)
        argument = SETTLE.pack(
            self._votes.at("votes"), 0, slot.counts.address, slot.address("labels"), 0, 1, count
        )
        self._kernels.settle(count, argument, self._compute)

    def _timing(self, frame: Launched) -> dict[str, float]:
        def ms(start: str, end: str) -> float:
            return self._cuda.elapsed_ms(frame.slot.events[start], frame.slot.events[end])

        return {
            "preprocess": frame.staged_ms + ms("begun", "uploaded") + ms("turn", "prepared"),
            "features": ms("prepared", "featured"),
            "match": ms("featured", "matched"),
            "postprocess": ms("matched", "done"),
        }
