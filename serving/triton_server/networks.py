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

# What a graph gave, by name, not looked into: Triton's tensors (on a GPU they never leave it), or
# arrays.
Held: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True)
class Shots:
    """Encoded supports, each piece what one call of `match` takes."""

    pieces: tuple[Held, ...]

    @property
    def bytes(self) -> int | None:
        """How much they take; None where a GPU holds them."""
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
        """Call nothing yet: the other models may still be loading.

        Args:
            pb: Triton's module ``triton_python_backend_utils``.
            prefix: what the models' names begin with.
            version: their version, so that graphs of two networks never mix.
            types: by graph and tensor, float32, float16, int32 or int64. Those of `support` show
                whether there is a background contrast.
            packing: how `match` takes its supports, if packed.
            copies: of supports that are arrays, where a GPU holds the rest; None for none.
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
        # Where one graph gives halves and the next takes floats, they pass through the CPU.
        self._mixed = any(
            types[of][level] != types[to][level] for of, to, levels in passed for level in levels
        )

    async def features(self, images: Floats) -> Held:
        """Images [N,3,H,W] -> `f2`, `f3`, `f4`."""
        return await self._run("features", {"image": images}, on_cpu=self._mixed)

    async def encode(self, images: Floats, masks: Floats) -> tuple[Held, Objects]:
        """Images [K,3,H,W] and masks [K,H,W] -> encoded supports, to be kept, and their objects.

        These are `s2`, `s3`, `s4` (and `c3`, `c4`). What presence needs of them is on the CPU.
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
        """The last layer of a query's `f4`, [C,row] on the CPU, of any length of its columns.

        Where a GPU holds it, it comes as the encoding of a support whose mask covers everything:
        Triton alone brings no tensor from there, but a model's outputs.
        """
        found = features["f4"]
        if not found.is_cpu():
            inputs = {**features, "mask": np.ones((1, *size), np.float32)}
            found = (await self._run("support", inputs, on_cpu=True, outputs=["s4"]))["s4"]
        last: npt.NDArray[np.floating] = found.as_numpy()[0, -1]
        return last

    def arrange(self, encoded: Sequence[Held], most: int) -> Shots:
        """Encoded supports, as `match` takes them in calls of `most` at most, and in its types."""
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
        """The supports, in the memory of the GPU where the features are."""
        device = getattr(features["f2"], "__dlpack_device__", None)  # where this Triton has it
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
    """Whether a model is not there yet: a server loads all models of a new version side by side.

    (24.10's `is_model_ready` brings the server down where a model asks while it is loaded itself.)
    """
    return "ready" in message or "unknown model" in message


def _keep(tensor: Any) -> Any:
    """A copy that may be kept: Triton's CPU tensors are in shared memory, which is scarce."""
    return np.array(tensor.as_numpy()) if tensor.is_cpu() else tensor
