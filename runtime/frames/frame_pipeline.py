"""Segments frames wholly on the GPU: upload pixels, run kernels and network, download masks.

`frame_steps` enqueues the work; this file does the locking and bookkeeping between threads. Each
frame in flight has its own memory, a slot; each caller has a lane, a queue with a few slots
(`frame_lane`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hsnet_trt.errors import BackendError, InputError
from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.device.gpu_lock import GpuLock
from hsnet_trt.runtime.device.memory import Block
from hsnet_trt.runtime.frames.device_graph import DeviceGraph
from hsnet_trt.runtime.frames.frame_kernels import MOST_ROWS, FrameKernels
from hsnet_trt.runtime.frames.frame_lane import Lane, Launched
from hsnet_trt.runtime.frames.frame_slot import Slot
from hsnet_trt.runtime.frames.frame_steps import FrameSteps
from hsnet_trt.runtime.frames.frame_supports import GpuSupports, SupportSets
from hsnet_trt.runtime.matching.graphs import COLUMN_INPUTS, FEATURES, Tensors, not_finite
from hsnet_trt.runtime.matching.presence import OBJECTS
from hsnet_trt.runtime.matching.runner import FrameAnswer
from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.pictures.preprocess import Floats
from hsnet_trt.runtime.pictures.window import Window

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
        self._cuda, self._lock = cuda, lock
        self._steps = FrameSteps(cuda, engines, arena, stream, preprocessing, kernels)
        self._sets = SupportSets(cuda, lambda: GpuSupports(cuda, engines["match"], arena))
        self.columns = COLUMN_INPUTS[-1] in engines["match"].most
        self._slots: list[Slot] = []
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
            frames.mapped = frames._steps.mapping_pays()
        return frames

    def open_lane(self, slots: int, sets: int = 1, *, refine: bool = False) -> Lane:
        """Make a lane and allocate `slots` slots: as many of its frames may be in flight.

        As many support sets as the last lane asked for are kept on the GPU. With `refine` the masks
        of its frames are refined.
        """
        with self._lock:
            self._sets.most = sets
        with self._cuda.current():
            return Lane(self, slots, refine=refine)

    def make_slot(self, *, refine: bool = False) -> Slot:
        """Make a slot, still without memory; the context must be current."""
        with self._lock:
            slot = Slot(self._cuda, mapped=self.mapped, refine=refine)
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

        def work(held: GpuSupports, where: str) -> None:
            self._steps.run_network(slot, size, size, classes, held, where)
            self._steps.draw(slot, size, classes, held, count, scores=scores)

        slot.first = 0
        staged = self._send(slot, pixels, supports, shots, work, scores=scores)
        return Launched(slot, size, size, classes, count, scores, staged)

    def start_match(
        self,
        slot: Slot,
        pixels: Pixels,
        supports: Tensors,
        shots: Sequence[int],
        window: Window | None,
    ) -> Launched:
        """See `Lane.match`: everything up to the logits, which come back to the host."""
        classes, count = len(shots), sum(shots)
        drawn = size = (pixels.shape[0], pixels.shape[1])
        slot.first = 0
        if window is not None:
            size = (window.height, window.width)
            if slot.refine:  # the whole frame is uploaded, since it guides the refinement
                slot.first = 3 * (window.top * drawn[1] + window.left)
            else:
                pixels = window.of(pixels)

        def work(held: GpuSupports, where: str) -> None:
            self._steps.run_network(slot, size, drawn, classes, held, where)
            self._steps.download_logits(slot, held, count)

        staged = self._send(slot, pixels, supports, shots, work, scores=True, drawn=drawn)
        return Launched(slot, size, drawn, classes, count, True, staged)

    def read_match(self, frame: Launched) -> tuple[Floats, Floats]:
        """Wait for a frame that was matched: its shots' logits [S,2,h,w]; its objects' matches [N].

        Raises:
            BackendError: CUDA failed, or the logits are not finite.
        """
        self.await_done(frame)
        logits = self._steps.read_logits(frame.slot, frame.shots)
        if not np.isfinite(logits).all():
            raise not_finite("on the GPU")
        return logits, frame.slot.read_counts(frame.classes)[1]

    def features(self, frame: Launched) -> Tensors:
        """The features of a frame that was matched and not drawn yet, each [1,L,C,row]."""
        with self._lock:
            self._check_open()
            with self._cuda.current():
                return self._steps.features(frame.slot, frame.size)

    def draw(self, frame: Launched, logits: Floats, *, scores: bool) -> Launched:
        """Enqueue the drawing of other logits, [classes,2,h,w], for a frame that was matched."""
        slot, classes = frame.slot, len(logits)
        with self._lock, self._cuda.current():
            self._check_open()
            own = self._steps.upload_logits(slot, logits)
            self._steps.draw(slot, frame.drawn, classes, own, classes, scores=scores)
        return dataclasses.replace(frame, classes=classes, scores=scores)

    def forget_features(self) -> None:
        """Note that the arena's features are about to be overwritten; the lock must be held."""
        self._steps.forget_features()

    def _send(
        self,
        slot: Slot,
        pixels: Pixels,
        supports: Tensors,
        shots: Sequence[int],
        work: Callable[[GpuSupports, str], None],
        *,
        scores: bool,
        drawn: tuple[int, int] | None = None,
    ) -> float:
        """Upload a frame and enqueue its work; returns the milliseconds of `Slot.bring`.

        `drawn` is the size of the masks if they are drawn later, by `draw`; else None.

        Raises:
            InputError: the frame is too tall for CUDA.
        """
        size, classes, count = (pixels.shape[0], pixels.shape[1]), len(shots), sum(shots)
        rows = (drawn or size)[0]
        if rows > MOST_ROWS:
            raise InputError(
                "the picture is too tall for the GPU",
                expected=f"{MOST_ROWS:,} rows at most",
                found=f"{rows:,} rows",
                fix='cut it in pieces, or load the segmenter with backend="onnxruntime"',
            )
        with self._cuda.current():
            # Scores decide which class wins where masks overlap.
            wanted = scores or classes > 1
            with self._lock:
                compared = len(supports[OBJECTS])
                slot.fit(drawn or size, classes, compared, masks=classes > 1, scores=wanted)
                if drawn is not None:
                    self._steps.fit_logits(slot, classes, count)
            # The only copy on the host. It drops the padding of rows; BGR stays BGR.
            slot.bgr = pixels.strides[2] < 0
            stored = pixels[:, :, ::-1] if slot.bgr else pixels
            staged = slot.bring(stored, self._steps.upload, self._lock)
            with self._lock:
                self._check_open()
                try:
                    work(*self._sets.of(supports, shots, self._steps.compute))
                except BaseException:
                    # Nothing of this frame may still run when its slot is used again.
                    self._steps.synchronise()
                    raise
        return staged

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError("the segmenter was closed while a frame was under way")

    def await_done(self, frame: Launched) -> None:
        """Wait until the GPU has finished a frame."""
        with self._lock.waiting(), self._cuda.current():
            self._check_open()
            self._cuda.synchronise(frame.slot.events["done"])

    def finish(self, frame: Launched) -> FrameAnswer:
        """See `SlotFrame.collect`."""
        slot, classes = frame.slot, frame.classes
        self.await_done(frame)
        with self._lock.waiting(), self._cuda.current():
            timing = self._steps.timing(frame)
        counts, matches = slot.read_counts(classes)
        if counts[classes]:
            raise not_finite("on the GPU")
        labels = slot.read("labels", np.uint8, frame.drawn)
        planes = (classes, *frame.drawn)
        masks = list(slot.read("masks", np.bool_, planes)) if classes > 1 else [labels.view(bool)]
        scores = list(slot.read("scores", np.float32, planes)) if frame.scores else []
        return FrameAnswer(labels, masks, scores, timing, matches)

    def close(self) -> None:
        """Wait for the frames in flight and free everything; the context must be current."""
        if self._closed:
            return
        self._closed = True
        self._lock.wait_for_others()  # what they wait for is about to be destroyed
        self._steps.synchronise()
        for slot in self._slots:
            slot.free()
        self._slots.clear()
        self._sets.free()
        self._steps.close()
