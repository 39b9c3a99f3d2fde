"""Runs a bundle's engines with TensorRT 10.3 to 11, or TensorRT for RTX, through one code path.

`run` takes and gives arrays in the CPU's memory, for supports, batches and `verify`. Frames take
the shorter way of `frame_pipeline`, which keeps everything but the picture and its mask on the GPU.
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
    """The three engines on the first GPU. Threads that call `run` take turns."""

    packing = ()  # a packed `match` gathers by index, which engines are slow at

    def __init__(self, bundle: Bundle, engines: dict[str, EngineFile]) -> None:
        """Read, check and deserialise the engines, and reserve all the memory they need.

        Args:
            bundle: where the engines are.
            engines: for each of features, support and match, the engine that is to run; all of one
                flavour.

        Raises:
            BundleError: an engine was altered; it is not deserialised.
            BackendError: TensorRT, a CUDA library or a GPU is missing here, an engine was built
                for something else, or the GPU's memory does not suffice.
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
        # Also when the interpreter ends, before the libraries below are unloaded.
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
        """Whether `match` is the correlation plugin's."""
        return COLUMN_INPUTS[-1] in self._held.engines["match"].inputs

    @property
    def frames(self) -> GpuFrames | None:
        """The short way of a frame; None where kernels for it are missing."""
        return self._held.frames

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run `graph` once; see `network.Runner`.

        Raises:
            BackendError: TensorRT or CUDA failed.
        """
        with self._held.lock, self._held.cuda.current():
            return self._held.run(graph, inputs)

    def close(self) -> None:
        """Free engines, memory and the hold on the GPU's context; harmless when repeated."""
        self._close()


class _Held:
    """What must be given back, apart from the runner so that its end can be watched."""

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
        self._runtime = trt.Runtime(logger)  # first, so that it logs why a plugin is refused
        load_plugins(bundle, chosen.values(), trt)
        for name in GRAPHS:
            entry = chosen[name]
            # Version-compatible engines bring code for the CPU, no others do.
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
        sent = {}  # pageable memory must live until the stream has read it
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
        """In the order that CUDA and TensorRT ask for; nothing in a forked process."""
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
            except BackendError as error:  # of a GPU that fell over, or of our parent
                _log.warning("the GPU's memory was not freed: %s", error)
            self.cuda.close()

    def _bind(self, graph: str | None = None) -> None:
        """Workspace and tensors of the arena; what a frame bound elsewhere is bound back."""
        assert self._arena is not None
        for engine in self.engines.values() if graph is None else [self.engines[graph]]:
            if graph is None:
                engine.use_workspace(self._arena.at("workspace"), self._arena.sizes["workspace"])
            for name in engine.types:
                engine.bind(name, self._arena.at(name))


def _load(flavour: str) -> Any:
    """The TensorRT module.

    Raises:
        BackendError: it is not installed.
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
    """Repeat the last item until the profile's least is reached."""
    missing = least - len(array)
    if missing <= 0:
        return array
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
