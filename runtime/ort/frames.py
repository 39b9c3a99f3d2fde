"""Whole frames on the GPU with ONNX Runtime: the frame pipeline of the engines, around sessions.

Besides ONNX Runtime it needs pycuda or cuda-bindings, and the compiled frame kernels. If one is
missing, the CPU resizes photographs and draws masks, and a warning is logged. CUDA graphs need
cuda-bindings.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.device.cuda_graphs import CudaGraphs, open_graphs
from hsnet_trt.runtime.device.driver import Cuda, open_cuda
from hsnet_trt.runtime.device.driver_types import OutOfGpuMemory
from hsnet_trt.runtime.device.gpu_lock import GpuLock
from hsnet_trt.runtime.device.memory import Block
from hsnet_trt.runtime.frames.frame_kernels import find_kernels
from hsnet_trt.runtime.frames.frame_pipeline import GpuFrames
from hsnet_trt.runtime.matching.runner import Limits
from hsnet_trt.runtime.ort.device_session import DeviceSession

_log = logging.getLogger("hsnet_trt")

FRAME_GRAPHS = ("features", "match")  # the graphs of a frame; supports go through host memory


class FrameParts:
    """The CUDA stream that sessions are opened on, and the other resources of their frames.

    Attributes:
        lock: to be held while work is enqueued in the stream.
        frames: the pipeline, once `attach` was called.
    """

    def __init__(self, cuda: Cuda, kernels: bytes) -> None:
        """Use `open_parts`."""
        self._cuda, self._kernels = cuda, kernels
        self.lock = GpuLock()
        with cuda.current():
            self._stream: Any = cuda.stream()
        self._graphs: CudaGraphs | None = open_graphs()
        self._arena: Block | None = None
        self._sessions: list[DeviceSession] = []
        self.frames: GpuFrames | None = None

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream.handle)

    @property
    def graphs(self) -> bool:
        """Whether sessions may capture CUDA graphs."""
        return self._graphs is not None

    def attach(
        self, bundle: Bundle, sessions: Mapping[str, Any], run_options: Any, limits: Limits,
        capturing: Mapping[str, bool],
    ) -> None:  # fmt: skip
        """Set up the pipeline around the sessions.

        `frames` stays None if the two graphs' types differ, or the kernels do not fit the GPU.

        Args:
            bundle: the opened bundle.
            sessions: of `FRAME_GRAPHS`, opened on `stream`.
            run_options: the class `onnxruntime.RunOptions`.
            limits: how much one call may be given.
            capturing: for each of them, whether it was opened with `enable_cuda_graph`.

        Raises:
            OutOfGpuMemory: the GPU's memory does not suffice.
            BackendError: CUDA failed while memory was allocated.
        """
        most = {"N": 1, "B": 1, "S": limits.supports}
        made = {
            name: DeviceSession(name, sessions[name], run_options, most, self.lock)
            for name in FRAME_GRAPHS
        }
        for name, graph in made.items():
            if self._graphs is not None and capturing[name]:
                graph.use_graphs(self._graphs)
        self._sessions += made.values()
        features = made["features"]
        sizes = {n: int(np.prod(s)) * features.types[n].itemsize for n, s in features.most.items()}
        with self.lock, self._cuda.current():
            self._arena = Block(self._cuda, sizes)
        for name in sizes:
            features.bind(name, self._arena.at(name))
        try:
            with self.lock, self._cuda.current():
                self.frames = GpuFrames.open(
                    self._cuda, made, self._arena, self._stream, self.lock,
                    bundle.manifest.preprocessing, self._kernels,
                )  # fmt: skip
        except OutOfGpuMemory:
            raise
        except BackendError as error:  # compiled for other GPUs, as in a bundle for a Jetson
            _log.warning("photographs are resized and masks drawn by the CPU: %s", error)

    def free(self, sessions: dict[str, Any]) -> None:
        """Free everything and the sessions, in the order that CUDA requires; may be repeated."""
        with self.lock:
            if self._stream is None:
                return
            try:
                with self._cuda.current():
                    if self.frames is not None:
                        self.frames.close()
                    self._cuda.synchronise(self._stream)
                    for session in self._sessions:
                        session.close()
                    sessions.clear()
                    if self._arena is not None:
                        self._arena.free()
                    self._cuda.destroy(self._stream)
            except BackendError as error:  # the GPU failed, or this is a forked process
                _log.warning("the GPU's memory was not freed: %s", error)
            self.frames = self._arena = self._stream = None
            self._sessions.clear()
            sessions.clear()
            self._cuda.close()


def open_parts(bundle: Bundle, capability: str) -> FrameParts | None:
    """The resources that frames on the GPU need; None, with a warning, if one is missing.

    Args:
        bundle: may hold compiled kernels.
        capability: compute capability of the GPU, such as "8.7".

    Raises:
        BundleError: the kernels in the bundle were altered.
    """
    kernels = find_kernels(bundle, capability)
    if kernels is None:
        return None  # find_kernels has logged it
    try:
        return FrameParts(open_cuda(), kernels)
    except BackendError as error:
        _log.warning("photographs are resized and masks drawn by the CPU: %s", error)
        return None
