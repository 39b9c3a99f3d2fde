"""Runs a bundle's engines with TensorRT 10.3 to 11, or TensorRT for RTX, through one code path.

`run` takes and returns arrays in host memory, for supports, batches and `verify`. Frames go through
`frames.frame_pipeline`, which keeps everything but the picture and its masks on the GPU.
"""

from __future__ import annotations

import importlib
import logging
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.manifest import EngineFile
from hsnet_trt.runtime.device.driver import Cuda, open_cuda
from hsnet_trt.runtime.device.gpu_lock import GpuLock
from hsnet_trt.runtime.device.kernel_cache import cache_file
from hsnet_trt.runtime.device.machine import platform_tag
from hsnet_trt.runtime.device.memory import Block, reserve
from hsnet_trt.runtime.engines.compatibility import Host, misfit, remedy
from hsnet_trt.runtime.engines.engine import Engine
from hsnet_trt.runtime.engines.logger import shared_logger
from hsnet_trt.runtime.engines.plugins import load_plugins
from hsnet_trt.runtime.frames.frame_kernels import find_kernels
from hsnet_trt.runtime.frames.frame_pipeline import GpuFrames
from hsnet_trt.runtime.matching.graphs import COLUMN_INPUTS, GRAPHS, Tensors
from hsnet_trt.runtime.matching.runner import Limits

_log = logging.getLogger("hsnet_trt.tensorrt")


class TensorRTRunner:
    """The three engines on the first GPU. Concurrent calls of `run` are serialised."""

    packing = ()  # a packed `match` gathers by index, which is slow in engines

    def __init__(self, bundle: Bundle, engines: dict[str, EngineFile]) -> None:
        """Read, check and deserialise the engines, and allocate all the memory they need.

        Args:
            bundle: holds the engines.
            engines: the engine to run for each of features, support and match; all of one flavour.

        Raises:
            BundleError: an engine was altered; it is not deserialised.
            BackendError: TensorRT, a CUDA library or a GPU is missing, an engine does not fit this
                machine, or the GPU's memory does not suffice (`OutOfGpuMemory`).
        """
        self.backend = engines["match"].flavour
        self.precision = engines["match"].variant.precision
        self.contrast = bool(bundle.manifest.model.contrast)
        self.limits = Limits(
            images=engines["features"].profile["N"].most,
            shots=engines["support"].profile["S"].most,
            queries=engines["match"].profile["B"].most,
            supports=engines["match"].profile["S"].most,
        )
        trt = _load(self.backend)
        cuda = open_cuda()
        self._held = _Held(cuda)
        # Runs at interpreter exit too, before the libraries are unloaded.
        self._close = weakref.finalize(self, self._held.free)
        try:
            facts = cuda.facts
            host = Host(self.backend, trt.__version__, facts.compute_capability, platform_tag())
            self.device = f"{facts.name} ({self.backend} {host.version}, {cuda.library})"
            for entry in engines.values():
                reason = misfit(entry, host)
                if reason is not None:
                    raise BackendError(
                        f"{entry.file} cannot run here",
                        found=reason,
                        fix=remedy(self.backend, facts.compute_capability),
                    )
            with cuda.current():
                self._held.load(bundle, engines, trt, self.limits)
        except BaseException:
            self.close()
            raise

    @property
    def columns(self) -> bool:
        """Whether `match` uses the correlation plugin."""
        return COLUMN_INPUTS[-1] in self._held.engines["match"].inputs

    @property
    def frames(self) -> GpuFrames | None:
        """Frames on the GPU; None if the kernels for them are missing."""
        return self._held.frames

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run `graph` once; see `matching.runner.Runner`.

        Raises:
            BackendError: TensorRT or CUDA failed.
        """
        with self._held.lock, self._held.cuda.current():
            return self._held.run(graph, inputs)

    def close(self) -> None:
        """Free engines and memory, and release the GPU's context; harmless when repeated."""
        self._close()


class _Held:
    """The resources to free, in an object of their own so that a finalizer can hold them."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.lock = GpuLock()
        self.engines: dict[str, Engine] = {}
        self.stream: Any = None
        self.frames: GpuFrames | None = None
        self._arena: Block | None = None
        self._runtime: Any = None

    def load(self, bundle: Bundle, chosen: dict[str, EngineFile], trt: Any, most: Limits) -> None:
        logger = shared_logger(trt)
        self.stream = self.cuda.stream()
        self._runtime = trt.Runtime(logger)  # before plugins, so that their errors are logged
        load_plugins(bundle, chosen.values(), trt)
        for name in GRAPHS:
            entry = chosen[name]
            # Only version-compatible engines contain host code.
            self._runtime.engine_host_code_allowed = entry.version_compatible
            engine = self._runtime.deserialize_cuda_engine(bundle.read(entry.file))
            if engine is None:
                raise BackendError(
                    f"{entry.flavour} refuses the engine {entry.file}",
                    found=logger.take_error() or "no reason given",
                    fix=remedy(entry.flavour, self.cuda.facts.compute_capability),
                )
            sha256 = bundle.manifest.files[entry.file].sha256
            cache = cache_file(sha256, self.cuda.facts.name)
            self.engines[name] = Engine(
                name,
                entry.file,
                engine,
                trt,
                logger,
                cache,
                contrast=bool(bundle.manifest.model.contrast),
            )
        sizes: dict[str, int] = {"workspace": 0}
        for held in self.engines.values():
            sizes["workspace"] = max(sizes["workspace"], held.workspace)
            for name, shape in held.most.items():
                size = int(np.prod(shape)) * held.types[name].itemsize
                sizes[name] = max(sizes.get(name, 0), size)
        variant = chosen["match"].variant
        match = next((g for g in bundle.manifest.graphs if g.variant == variant), None)
        self._arena = reserve(self.cuda, sizes, match, most)
        self._bind()
        self.frames = GpuFrames.open(
            self.cuda,
            self.engines,
            self._arena,
            self.stream,
            self.lock,
            bundle.manifest.preprocessing,
            find_kernels(bundle, self.cuda.facts.compute_capability),
        )
        _log.debug("%d bytes of device memory for %s", self._arena.bytes, bundle.path)

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        engine, arena = self.engines[graph], self._arena
        assert arena is not None
        if self.frames is not None:
            self.frames.forget_features()
        self._bind(graph)
        sent = {}  # keeps the host arrays alive until the stream has read them
        for name in engine.inputs:
            array = _padded(inputs[name], engine.least[name][0])
            sent[name] = np.ascontiguousarray(array, dtype=engine.types[name])
        engine.shape({name: array.shape for name, array in sent.items()})
        for name, array in sent.items():
            self.cuda.upload(arena.at(name), array, self.stream)
        engine.launch(self.stream.handle)
        outputs = {n: np.empty(engine.output_shape(n), engine.types[n]) for n in engine.outputs}
        for name, array in outputs.items():
            self.cuda.download(array, arena.at(name), self.stream)
        self.cuda.synchronise(self.stream)
        counts = [len(inputs[engine.inputs[0]])]
        if graph == "match":
            counts.append(len(inputs["s2"]))
        kept = tuple(slice(count) for count in counts)
        return {name: array[kept] for name, array in outputs.items()}

    def free(self) -> None:
        """Free all in the order that CUDA and TensorRT require; no-op in a forked process."""
        with self.lock:
            try:
                with self.cuda.current():
                    if self.frames is not None:
                        self.frames.close()
                    if self.stream is not None:
                        self.cuda.synchronise(self.stream)
                    for engine in self.engines.values():
                        engine.close()
                    self.engines.clear()
                    self._runtime = None
                    if self._arena is not None:
                        self._arena.free()
                    if self.stream is not None:
                        self.cuda.destroy(self.stream)
                    self.stream = self.frames = self._arena = None
            except BackendError as error:  # the GPU failed, or this is a forked process
                _log.warning("the GPU's memory was not freed: %s", error)
            self.cuda.close()

    def _bind(self, graph: str | None = None) -> None:
        """Bind the tensors (and for all graphs, the workspace) to the arena, undoing a frame's."""
        assert self._arena is not None
        for engine in self.engines.values() if graph is None else [self.engines[graph]]:
            if graph is None:
                engine.use_workspace(self._arena.at("workspace"), self._arena.sizes["workspace"])
            for name in engine.types:
                engine.bind(name, self._arena.at(name))


def _load(flavour: str) -> Any:
    """Import the TensorRT module.

    Raises:
        BackendError: it cannot be loaded.
    """
    package = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}[flavour]
    try:
        return importlib.import_module(flavour)
    except (ImportError, OSError) as error:
        raise BackendError(
            f"{flavour} cannot be loaded",
            found=error,
            fix=f"install it: python -m pip install {package}",
        ) from error


def _padded(array: npt.NDArray[Any], least: int) -> npt.NDArray[Any]:
    """Repeat the last item until the profile's smallest batch is reached."""
    missing = least - len(array)
    if missing <= 0:
        return array
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
