"""The embedded API: load a bundle, set supports once, segment many queries."""

from __future__ import annotations

import io
import logging
import os
import threading
import weakref
from collections.abc import Iterable
from typing import Any

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.matching.encode import as_list
from hsnet_trt.runtime.network import Network
from hsnet_trt.runtime.pictures.images import check_color
from hsnet_trt.runtime.pictures.result import Segmentation
from hsnet_trt.runtime.pictures.sources import ImageSource
from hsnet_trt.runtime.stream import FrameStream
from hsnet_trt.runtime.supported_network import SupportedNetwork
from hsnet_trt.runtime.video.follower import Follower
from hsnet_trt.runtime.video.memory import Memory

_log = logging.getLogger("hsnet_trt")


class FewShotSegmenter(SupportedNetwork):
    """Segments objects of classes it was never trained on, shown by one or a few support images.

    Set the supports once, then segment as many queries as you like. Several threads may use it at
    once; a call works with the supports as they were when it began. Use it as a context manager,
    or call `close`.

        with FewShotSegmenter.load("bundle/") as segmenter:
            segmenter.set_support("mug", images, masks)
            result = segmenter.segment("kitchen.jpg")
            result.masks["mug"]
    """

    def __init__(self, network: Network) -> None:
        """Use `FewShotSegmenter.load`."""
        if not isinstance(network, Network):
            raise InputError(
                "a segmenter is opened by its method load",
                expected='FewShotSegmenter.load("bundle/")',
                found=f"FewShotSegmenter({network!r})",
            )
        super().__init__(network)
        self._streams: weakref.WeakSet[FrameStream] = weakref.WeakSet()
        self._streams_lock = threading.Lock()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        backend: str = "auto",
        size: int | tuple[int, int] | None = None,
        sha256: str | None = None,
        precision: str | None = None,
        lowering: str | None = None,
        gpu_memory: int | None = None,
        refine: bool | None = None,
    ) -> FewShotSegmenter:
        """Open a bundle and load its network.

        Args:
            path: the bundle's folder.
            backend: "tensorrt", "tensorrt_rtx", "onnxruntime_cuda" (ONNX Runtime on an NVIDIA
                GPU), "onnxruntime" (on the CPU, works everywhere), or "auto" for the first of
                these that works here; `backend_reason` and the log say why it is that one.
            size: height and width of the network's input in pixels, or one number for a square, of
                those that the bundle was exported at; None for the first of them.
            sha256: the SHA-256 that `bundle.json` must have. If it comes from a source that you
                trust, it proves that the whole bundle does.
            precision: "fp32", "fp16" or "int8"; None for the first that the bundle holds of fp16,
                fp32, int8 on a GPU, and of fp32, fp16, int8 on a CPU.
            lowering: form of the matching graph or engine: "conv2d", "conv3d" or "packed", if the
                bundle holds it. "auto" for the fastest: the first time each is timed, which takes
                some seconds, and the answer is remembered for this machine; on "onnxruntime_cuda"
                both ways of finding cuDNN's algorithms are timed, too. None for packed on a CPU,
                else the first that was exported.
            gpu_memory: limit in bytes for what "onnxruntime_cuda" allocates, for a GPU that is
                shared; CUDA itself and frames under way come on top. None for no limit. The other
                backends ignore it.
            refine: whether masks and scores are refined, so that their edges follow those of the
                picture (by its colours and a guided filter; not in the paper). None for what the
                bundle says.

        Raises:
            BundleError: no bundle, a damaged or altered one, or one without that size, precision
                or lowering.
            BackendError: the backend cannot run here.
            InputError: an unknown backend or precision, an invalid `size`, or a `gpu_memory`
                that is not positive.
        """
        network = Network.load(path, backend, size, sha256, precision, lowering, gpu_memory, refine)
        if not network.bundle.manifest.model.trained:
            _log.warning("the weights of %s are random: its masks mean nothing", os.fspath(path))
        return cls(network)

    def segment(self, image: ImageSource, *, color: str = "rgb") -> Segmentation:
        """Segment one query against all classes.

        Args:
            image: a path, a file object, a PIL image, or a uint8 [H,W,3] array, of any size. An
                array's rows may be padded, as a camera's are; where a GPU prepares frames, neither
                padding nor BGR costs a copy.
            color: the order of an array's channels: "rgb", or "bgr" as OpenCV reads them. Ignored
                for files and PIL images, whose order is known.

        Returns:
            Masks, scores and labels at the image's own size (after any EXIF rotation).

        Raises:
            InputError: no support was set, the image cannot be read, or an unknown `color`.
            BackendError: the backend failed.
        """
        return self._segment_all("segment", [image], color)[0]

    def segment_batch(
        self, images: Iterable[ImageSource], *, color: str = "rgb"
    ) -> list[Segmentation]:
        """Segment several queries, as many at once as the backend takes.

        Args:
            images: images as `segment` takes them, of any sizes; each is read when its turn comes.
            color: as for `segment`.

        Returns:
            One result for each image, in the same order. Each equals that of `segment` up to
            rounding.

        Raises:
            InputError: no support was set, an image cannot be read, or an unknown `color`.
            BackendError: the backend failed.
        """
        return self._segment_all("segment_batch", as_list(images, "the queries", one=3), color)

    def stream(
        self,
        frames: Iterable[ImageSource],
        *,
        drop: str | None = None,
        scores: bool = False,
        slots: int = 2,
        color: str = "rgb",
        memory: Memory | None = None,
        steady: bool = False,
    ) -> FrameStream:
        """Segment frames as they come, in order, several under way at once.

        A thread reads and decodes ahead, by at most `slots` frames. A frame that fails yields its
        error, and the stream goes on. Supports may be changed meanwhile. To end the stream, leave
        the loop or call `close` on it.

            for frame in segmenter.stream(camera, drop="oldest"):
                if frame.result is not None:
                    show(frame.image, frame.result.labels)

        Args:
            frames: images as `segment` takes them, read in that thread. Arrays are not copied at
                once, so a camera must give a new one for each frame.
            drop: None to segment every frame; "oldest" for a live camera: late frames are dropped,
                so that the newest one is next.
            scores: whether results hold score maps. On a GPU they cost time, as they are far larger
                than masks.
            slots: how many frames are under way at once on a GPU, 1 to 8.
            color: as for `segment`.
            memory: keeps frames with a confident answer as more shots of their class, beside those
                that were given; None to answer each frame by itself.
            steady: for videos: averages scores over time, along the motion of the picture, and in
                three of four frames looks only, and closer, where something was found. With
                `steady` or `memory`, one frame is under way at a time, and the shots of a class
                average their logits instead of voting.

        Returns:
            An iterator of `StreamedFrame`.

        Raises:
            InputError: a path instead of frames, no support was set, or an unknown value of `drop`,
                `slots` or `color`.
            HSNetError: OpenCV, which `memory` and `steady` need, is not installed.
            BackendError: the segmenter was closed while iterating.
        """
        if isinstance(frames, str | bytes | os.PathLike):
            raise InputError(
                "a stream takes frames, one after the other",
                expected="an iterable of images",
                found=repr(frames),
                fix="pass open_source(path) for a video or a camera, or `segment` one image",
            )
        if drop not in (None, "oldest"):
            raise InputError(
                "there is no such way to drop", expected='None or "oldest"', found=repr(drop)
            )
        if not 1 <= slots <= 8:
            raise InputError("slots must be 1 to 8", expected="1 to 8", found=slots)
        check_color(color)
        with self._current.use("stream"):
            self._current.snapshot("stream")
            stream = FrameStream(
                frames,
                self._network.follow(Follower(memory, steady=steady))
                if memory is not None or steady
                else self._network.pipeline.with_slots(slots),
                self._current,
                slots=slots,
                drop=drop == "oldest",
                scores=scores,
                color=color,
                owner=self._network,
            )
            with self._streams_lock:
                self._streams.add(stream)
                if self._current.closed:  # meanwhile, by a thread that did not see this stream
                    stream.close_with_segmenter()
            return stream

    def close(self) -> None:
        """Wait for calls that are under way, then free the network. May be called again."""
        self._current.refuse_calls()
        with self._streams_lock:
            streams = list(self._streams)
        for stream in streams:
            stream.close_with_segmenter()
        with self._current.emptied():
            self._network.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the bundle's path, the arguments of `load` and the support set.

        Unpickling opens the bundle again, on the same kind of backend, and refuses a `bundle.json`
        that has changed. `copy.copy` and `copy.deepcopy` do the same.

        Raises:
            BackendError: the segmenter is closed.
        """
        with self._current.use("pickle"):
            held, supports = self._current.supports, None
            if held.classes:
                stream = io.BytesIO()
                held.write(stream, self._network.origin)
                supports = stream.getvalue()
        path = str(self._network.bundle.path)
        return _reopen, (path, self._network.choices, supports)

    def __enter__(self) -> FewShotSegmenter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        height, width = self._network.size
        model = self._network.bundle.manifest.model.backbone
        return (
            f"FewShotSegmenter({model} {height}x{width} {self.precision} on {self.backend}, "
            f"classes {list(self.classes)})"
        )

    def _segment_all(self, call: str, images: list[Any], color: str) -> list[Segmentation]:
        check_color(color)
        with self._current.use(call):
            return self._network.pipeline.segment_all(images, self._current.snapshot(call), color)


def _reopen(path: str, choices: dict[str, Any], supports: bytes | None) -> FewShotSegmenter:
    """The segmenter of a pickle."""
    segmenter = FewShotSegmenter.load(path, **choices)
    if supports is not None:
        segmenter.load_supports(io.BytesIO(supports))
    return segmenter
