"""What of `triton_python_backend_utils` is used: a server whose models answer with ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

from hsnet_trt.runtime.matching.graphs import COLUMN_INPUTS, FEATURES, OUTPUTS, SUPPORTS

FLOATS = {
    "features": dict.fromkeys(("image", *FEATURES), "float32"),
    "support": dict.fromkeys((*FEATURES, "mask", *SUPPORTS), "float32"),
    "match": dict.fromkeys((*FEATURES, *SUPPORTS, "logits"), "float32"),
}
INDICES = dict.fromkeys(COLUMN_INPUTS[3:], "int32")
HALVES = {graph: dict.fromkeys(names, "float16") for graph, names in FLOATS.items()}
HALF_FEATURES = {**FLOATS, "features": {**HALVES["features"], "image": "float32"}}


class Tensor:
    """Triton's: on a GPU its content cannot be had as an array."""

    def __init__(self, name: str, array: np.ndarray, cpu: bool = True) -> None:
        self._name, self.array, self._cpu = name, array, cpu

    def name(self) -> str:
        return self._name

    def is_cpu(self) -> bool:
        return self._cpu

    def as_numpy(self) -> np.ndarray:
        assert self._cpu, "the content of a GPU's tensor was asked for"
        return self.array


class Response:
    def __init__(self, tensors: list[Tensor], failure: str | None = None) -> None:
        self._tensors, self._failure = tensors, failure

    def has_error(self) -> bool:
        return self._failure is not None

    def error(self) -> Response:
        return self

    def message(self) -> str:
        return self._failure or ""

    def output_tensors(self) -> list[Tensor]:
        return self._tensors


class Server:
    """What of `triton_python_backend_utils` is used; its models answer with ones."""

    TRITONSERVER_MEMORY_CPU = 0
    Tensor = Tensor

    def __init__(self, types: dict, on_gpu: bool, logit: float = 1.0) -> None:
        self.types, self.on_gpu, self.logit = types, on_gpu, logit
        self.calls: list[tuple[str, int, dict[str, Tensor]]] = []
        self.values: dict[str, dict[str, np.ndarray]] = {}  # what a graph gives instead of ones
        self.failure: str | None = None
        self.refuses: Callable[[dict[str, Tensor]], bool] = lambda given: False
        self.loading = 0  # so many calls find the model not loaded yet

    def PreferredMemory(self, memory: int, device: int) -> str:
        assert (memory, device) == (self.TRITONSERVER_MEMORY_CPU, 0)
        return "cpu"

    def InferenceRequest(
        self, model_name, model_version, requested_output_names, inputs, preferred_memory=None
    ):
        server, graph = self, model_name.rpartition("_")[2]
        given = {tensor.name(): tensor for tensor in inputs}
        for name, tensor in given.items():
            assert tensor.array.dtype == self.types[graph][name], f"{graph}: {name}"
        self.calls.append((model_name, model_version, given))
        count = len(given["image" if graph == "features" else "f2"].array)
        assert set(requested_output_names) <= set(OUTPUTS[graph])
        values = server.values.get(graph, {})

        class Request:
            async def async_exec(self) -> Response:
                await asyncio.sleep(0)
                if server.loading:
                    server.loading -= 1
                    return Response([], f"Model '{model_name}' is not ready.")
                if server.failure or server.refuses(given):
                    return Response([], server.failure or "refused")
                shape = (count, 1, 2, 3)
                if graph == "match":
                    shape = (count, len(given["s2"].array), 2, 2, 2)
                value = server.logit if graph == "match" else 1.0
                cpu = preferred_memory == "cpu" or not server.on_gpu
                return Response(
                    [
                        Tensor(
                            name,
                            values.get(name, np.full(shape, value)).astype(
                                server.types[graph][name]
                            ),
                            cpu,
                        )
                        for name in requested_output_names
                    ]
                )

        return Request()
