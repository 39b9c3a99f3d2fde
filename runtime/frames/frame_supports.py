"""The support set on the GPU, in chunks of shots that `match` takes at once.

Each chunk has memory for its logits, too; the kernels that vote read the logits of all chunks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.device.memory import Block, aligned
from hsnet_trt.runtime.frames.device_graph import DeviceGraph
from hsnet_trt.runtime.frames.frame_kernels import tiled
from hsnet_trt.runtime.matching.graphs import FEATURES, Tensors, inputs_of_supports
from hsnet_trt.runtime.matching.presence import OBJECTS

_versions = itertools.count(1)


class GpuSupports:
    """Keeps the support set of the last frame, so that a frame with the same set uploads nothing.

    Not thread-safe: the owner's lock guards it. All chunks have one shape, so the engine's shapes
    do not change from frame to frame: the last chunk is padded with zeros, and the logits of the
    padding are ignored.

    Attributes:
        version: unique for each uploaded set, across all instances.
        chunk: shots per call of the engine.
        chunk_elements: elements from the logits of one chunk to those of the next.
        vectors: how many the objects have together.
    """

    def __init__(self, cuda: Cuda, engine: DeviceGraph, arena: Block) -> None:
        self._cuda, self._engine, self._arena = cuda, engine, arena
        self._names = inputs_of_supports(engine.most)
        self._block: Block | None = None
        self._held: tuple[Tensors, tuple[int, ...]] | None = None
        self._chunks = 0
        self.version = 0
        self.chunk = 0
        self.chunk_elements = 0
        self.vectors = 0

    def hold(self, supports: Tensors, shots: Sequence[int], stream: Any) -> None:
        """Upload a support set, unless it is already uploaded.

        Args:
            supports: what the engine takes of S shots, as `running.arranged` gives it; and their
                `objects`, float32 [N,C]. Compared by identity: pass the same object while nothing
                has changed, another one otherwise.
            shots: number of shots of each class.
            stream: where the engine runs.

        Raises:
            OutOfGpuMemory: the set does not fit into the GPU's memory.
        """
        wanted = tuple(shots)
        if self.holds(supports, shots):
            return
        self._cuda.synchronise(stream)
        self.free()
        engine, count = self._engine, sum(wanted)
        most = engine.most["s2"][0]
        self._chunks = -(-count // most)
        self.chunk = max(-(-count // self._chunks), engine.least["s2"][0])
        self.shape()
        itemsize = engine.types["logits"].itemsize
        logits = aligned(int(np.prod(engine.output_shape("logits"))) * itemsize)
        self.chunk_elements = logits // itemsize
        sizes = {"first": 4 * (len(wanted) + 1), "logits": logits * self._chunks}
        objects = tiled(supports[OBJECTS])
        sizes[OBJECTS] = objects.nbytes
        for name in self._names:
            one = int(np.prod(engine.most[name][1:])) * engine.types[name].itemsize
            sizes.update({f"{name}.{k}": one * self.chunk for k in range(self._chunks)})
        self._block = Block(self._cuda, sizes)
        self._cuda.zero(self._block.at("first"), self._block.bytes, stream)
        sent: list[Any] = [np.cumsum([0, *wanted]).astype(np.int32)]
        self._cuda.upload(self._block.at("first"), sent[0], stream)
        self.vectors = len(supports[OBJECTS])
        if self.vectors:
            self._cuda.upload(self._block.at(OBJECTS), objects, stream)
        sent.append(objects)
        for name in self._names:
            array = np.ascontiguousarray(supports[name], dtype=engine.types[name])
            for k in range(self._chunks):
                part = array[k * self.chunk : (k + 1) * self.chunk]
                if len(part):
                    self._cuda.upload(self._block.at(f"{name}.{k}"), part, stream)
            sent.append(array)
        self._cuda.synchronise(stream)
        self._held = (supports, wanted)
        self.version = next(_versions)

    def holds(self, supports: Tensors, shots: Sequence[int]) -> bool:
        """Whether that set is the uploaded one."""
        return (
            self._held is not None and self._held[0] is supports and self._held[1] == tuple(shots)
        )

    @property
    def first(self) -> int:
        """The address of int32 [classes + 1]: the first shot of each class."""
        assert self._block is not None
        return self._block.at("first")

    @property
    def objects(self) -> int:
        """The address of the objects' vectors, as `frame_kernels.tiled` lays them out."""
        assert self._block is not None
        return self._block.at(OBJECTS)

    @property
    def logits(self) -> int:
        """The address of the first chunk's logits."""
        assert self._block is not None
        return self._block.at("logits")

    def parts(self, count: int) -> list[tuple[int, int, int]]:
        """Where the logits of the first `count` shots are, chunk by chunk.

        Returns:
            Offset of a chunk among those of all shots without gaps, its address, its length, in
            bytes.
        """
        engine = self._engine
        one = 2 * int(np.prod(engine.output_shape("logits")[3:])) * engine.types["logits"].itemsize
        step = self.chunk_elements * engine.types["logits"].itemsize
        return [
            (first * one, self.logits + k * step, min(self.chunk, count - first) * one)
            for k, first in enumerate(range(0, count, self.chunk))
        ]

    def shape(self) -> None:
        """Set the engine's input shapes: one query, one chunk of shots."""
        engine = self._engine
        shapes = {n: (max(1, engine.least[n][0]), *engine.most[n][1:]) for n in FEATURES}
        shapes.update({n: (self.chunk, *engine.most[n][1:]) for n in self._names})
        engine.shape(shapes)

    def run_chunks(self, launch: Callable[[DeviceGraph], None]) -> None:
        """Launch the engine once per chunk, on the query's features in the arena."""
        engine = self._engine
        assert self._block is not None
        for name in FEATURES:
            engine.bind(name, self._arena.at(name))
        size = self.chunk_elements * engine.types["logits"].itemsize
        for k in range(self._chunks):
            for name in self._names:
                engine.bind(name, self._block.at(f"{name}.{k}"))
            engine.bind("logits", self._block.at("logits") + k * size)
            launch(engine)

    def free(self) -> None:
        """Free the memory; no kernel may still use it."""
        self._held = None
        if self._block is not None:
            self._block.free()
            self._block = None


class SupportSets:
    """The support sets that were matched last. Not thread-safe: the owner's lock guards it.

    Attributes:
        most: how many are kept; another one replaces the least recently used.
    """

    def __init__(self, cuda: Cuda, make: Callable[[], GpuSupports]) -> None:
        self._cuda, self._make = cuda, make
        self._held: list[tuple[GpuSupports, str]] = []  # the one that was used last at the end
        self.most = 1

    def of(self, supports: Tensors, shots: Sequence[int], stream: Any) -> tuple[GpuSupports, str]:
        """The set on the GPU, uploaded if it is not there yet, and a name of its place.

        Arguments and errors are those of `GpuSupports.hold`.
        """
        for index, (held, _) in enumerate(self._held):
            if held.holds(supports, shots):
                self._held.append(self._held.pop(index))
                return self._held[-1]
        if len(self._held) > self.most:
            self._cuda.synchronise(stream)
        while len(self._held) > self.most:
            self._held.pop(0)[0].free()
        if len(self._held) < self.most:
            taken = {name for _, name in self._held}
            name = next(n for k in range(self.most) if (n := f"match {k}") not in taken)
            self._held.append((self._make(), name))
        else:
            self._held.append(self._held.pop(0))
        self._held[-1][0].hold(supports, shots, stream)
        return self._held[-1]

    def free(self) -> None:
        """Free the memory; no kernel may still use it."""
        for held, _ in self._held:
            held.free()
        self._held.clear()
