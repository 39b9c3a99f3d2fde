"""The three graphs as other models of the same Triton server, called from a Python backend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.bundle.manifest import PackedLevel
from hsnet_trt.runtime.matching.graphs import COLUMN_INPUTS, FEATURES, names_of, not_finite
from hsnet_trt.runtime.matching.packing import (
    CONTRASTS,
    compress,
    pack,
    side_by_side,
    supports_in,
)
from hsnet_trt.runtime.matching.presence import Objects, objects_in
from hsnet_trt.runtime.pictures.preprocess import Floats
from hsnet_trt.serving.triton_server.device_copies import Copies, DeviceCopies

_TYPES = {
    "float32": np.float32,
    "float16": np.float16,
    "int32": np.int32,
    "int64": np.int64,
}
_LOADING_SECONDS = 30.0  # how long a call waits for models that are being loaded

# A graph's outputs by name: Triton's tensors, which may stay on a GPU, or arrays.
Held: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True)
class Shots:
    """Encoded supports; each piece holds the inputs of one call of `match`."""

    pieces: tuple[Held, ...]

    @property
    def bytes(self) -> int | None:
        """Bytes of all pieces; None if a GPU holds one of them."""
        arrays = [value for piece in self.pieces for value in piece.values()]
        if all(isinstance(array, np.ndarray) for array in arrays):
            return sum(int(array.nbytes) for array in arrays)
        return None


class Networks:
    """Calls `prefix_features`, `prefix_support` and `prefix_match`, all of one version."""

    def __init__(
        self,
        pb: Any,
        prefix: str,
        version: int,
        types: dict[str, dict[str, str]],
        packing: Sequence[PackedLevel] = (),
        copies: DeviceCopies | None = None,
    ) -> None:
        """Set up, without calls, since the other models may still be loading.

        Args:
            pb: Triton's module ``triton_python_backend_utils``.
            prefix: prefix of the models' names.
            version: the models' version, so that graphs of two networks are never mixed.
            types: by graph and tensor, float32, float16, int32 or int64. Those of `support` show
                whether there is a background contrast.
            packing: the windows of a packed `match`; else empty.
            copies: keeps supports on the GPU if they are arrays and the features are there; None
                for no copies.
        """
        self._pb = pb
        self._prefix = prefix
        self._version = version
        self._types = types
        self._packing = packing
        self._copies = copies or DeviceCopies(0)
        self._columns = COLUMN_INPUTS[-1] in types["match"]
        self._supports = supports_in(types["support"])
        self.contrast = not set(CONTRASTS).isdisjoint(self._supports)
        passed = (
            ("features", "support", FEATURES),
            ("features", "match", FEATURES),
            ("support", "match", self._supports),
        )
        # If a graph's output type differs from the next one's input type, the CPU converts it.
        self._mixed = any(
            types[of][level] != types[to][level] for of, to, levels in passed for level in levels
        )

    async def features(self, images: Floats) -> Held:
        """Images [N,3,H,W] -> `f2`, `f3`, `f4`."""
        return await self._run("features", {"image": images}, on_cpu=self._mixed)

    async def encode(self, images: Floats, masks: Floats) -> tuple[Held, Objects]:
        """Images [K,3,H,W] and masks [K,H,W] -> encoded supports, and their objects.

        Encoded supports are `s2`, `s3`, `s4` (and `c3`, `c4`), safe to keep. The objects, for
        presence scores, are on the CPU.
        """
        features = await self.features(images)
        inputs = {**features, "mask": masks}
        encoded = await self._run("support", inputs, on_cpu=self._mixed or self._columns)
        kept = {level: _keep(encoded[level]) for level in self._supports}
        names = [name for name in ("s4", "c4") if name in kept]
        seen = encoded
        if not all(encoded[name].is_cpu() for name in names):
            seen = await self._run("support", inputs, on_cpu=True, outputs=names)
        return kept, objects_in({name: seen[name].as_numpy() for name in names})

    async def level4(self, features: Held, size: tuple[int, int]) -> npt.NDArray[np.floating]:
        """The last layer of a query's `f4`, [C,row], on the CPU; its columns may be scaled.

        If a GPU holds it, it is fetched as the encoding of a support whose mask covers everything,
        since Triton copies only a model's outputs to the CPU.
        """
        found = features["f4"]
        if not found.is_cpu():
            inputs = {**features, "mask": np.ones((1, *size), np.float32)}
            found = (await self._run("support", inputs, on_cpu=True, outputs=["s4"]))["s4"]
        last: npt.NDArray[np.floating] = found.as_numpy()[0, -1]
        return last

    def arrange(self, encoded: Sequence[Held], most: int) -> Shots:
        """Group encoded supports into calls of `match` with at most `most` shots, in its types."""
        pieces = encoded
        if self._packing or self._columns:
            shots = [shot for held in encoded for shot in compress(held)]
            parts = [shots[first : first + most] for first in range(0, len(shots), most)]
            pieces = [
                side_by_side(part) if self._columns else pack(part, self._packing) for part in parts
            ]
        return Shots(tuple(self._in_types_of_match(piece) for piece in pieces))

    def _in_types_of_match(self, piece: Held) -> Held:
        return {
            name: self._typed("match", name, value) if isinstance(value, np.ndarray) else value
            for name, value in piece.items()
        }

    async def match(self, features: Held, supports: Shots) -> Floats:
        """One query's features against all shots -> logits float32 [S,2,h,w].

        Raises:
            BackendError: a model failed, or its logits are not finite.
        """
        copies = None
        if self._columns and not self._mixed and not features["f2"].is_cpu():
            copies = await asyncio.to_thread(self._copy, features, supports)
        parts: list[npt.NDArray[Any]] = []
        for index, piece in enumerate(supports.pieces):
            inputs = {level: features[level] for level in FEATURES}
            try:
                given = {**inputs, **(piece if copies is None else self._tensors(copies[index]))}
                out = await self._run("match", given, on_cpu=True)
            except BackendError as error:
                if copies is None:
                    raise
                copies = None
                out = await self._run("match", {**inputs, **piece}, on_cpu=True)
                self._copies.give_up(error)
            parts.append(out["logits"].as_numpy()[0])
        logits = (parts[0] if len(parts) == 1 else np.concatenate(parts)).astype(np.float32)
        if not np.isfinite(logits).all():
            raise not_finite(f"in {self._prefix}_match")
        return logits

    def _copy(self, features: Held, supports: Shots) -> Copies | None:
        """The supports in the memory of the GPU that holds the features."""
        device = getattr(features["f2"], "__dlpack_device__", None)  # not in every Triton version
        return None if device is None else self._copies.of(supports, supports.pieces, device()[1])

    def _tensors(self, copies: dict[str, Any]) -> Held:
        try:
            return {name: self._pb.Tensor.from_dlpack(name, c) for name, c in copies.items()}
        except Exception as error:  # its exceptions share no other base
            raise BackendError("Triton cannot take a GPU's memory", found=error) from error

    async def _run(
        self,
        graph: str,
        inputs: Held,
        on_cpu: bool = False,
        outputs: Sequence[str] | None = None,
    ) -> Held:
        name = f"{self._prefix}_{graph}"
        options: dict[str, Any] = {}
        if on_cpu:
            options["preferred_memory"] = self._pb.PreferredMemory(
                self._pb.TRITONSERVER_MEMORY_CPU, 0
            )
        request = self._pb.InferenceRequest(
            model_name=name,
            model_version=self._version,
            requested_output_names=list(outputs or names_of(graph, contrast=self.contrast)[1]),
            inputs=[self._tensor(graph, key, value) for key, value in inputs.items()],
            **options,
        )
        end = time.monotonic() + _LOADING_SECONDS
        while (response := await request.async_exec()).has_error():
            message = str(response.error().message())
            if not _is_loading(message) or time.monotonic() > end:
                raise BackendError(
                    f"the model {name} failed", found=message, fix="see the server's log"
                )
            await asyncio.sleep(0.1)
        return {tensor.name(): tensor for tensor in response.output_tensors()}

    def _tensor(self, graph: str, name: str, value: Any) -> Any:
        if self._mixed and not isinstance(value, np.ndarray):
            value = value.as_numpy()
        if isinstance(value, np.ndarray):
            return self._pb.Tensor(name, self._typed(graph, name, value))
        return value

    def _typed(self, graph: str, name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.ascontiguousarray(array, dtype=_TYPES[self._types[graph][name]])


def _is_loading(message: str) -> bool:
    """Whether an error means that a model is still loading: a server loads all models in parallel.

    (`is_model_ready` of 24.10 crashes the server if a model calls it while it is loading itself.)
    """
    return "ready" in message or "unknown model" in message


def _keep(tensor: Any) -> Any:
    """A tensor to keep; those on the CPU are copied out of Triton's scarce shared memory."""
    return np.array(tensor.as_numpy()) if tensor.is_cpu() else tensor
