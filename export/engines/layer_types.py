"""Checks that a network was built in the requested precision, by the types of its layers.

A graph exported as FP16 whose convolutions were parsed in FP32 gives right answers, in twice the
time and memory. No other check would find that.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

# The layers that do most of the work: TensorRT's LayerType, and what messages call it.
PRODUCTS = {
    "CONVOLUTION": "convolutions",
    "DECONVOLUTION": "deconvolutions",
    "MATRIX_MULTIPLY": "matrix products",
}
_TYPES = {"fp32": "FLOAT", "fp16": "HALF"}
_INDICES = ("INT32", "INT64")  # where columns stand and how many they are, in any precision

# An engine's own names: "CaskConvolution", "gemm", "kgen"; and "Row major linear FP16 format".
_WORKERS = re.compile(r"conv|gemm|matmul|matrix", re.IGNORECASE)
_FORMAT = re.compile(r"\b(FP32|FP16|BF16|INT8|FP8|Float|Half|Int8)\b")
_PLAIN = {"Float": "FP32", "Half": "FP16", "Int8": "INT8"}


def wrong_types(described: dict[str, Any], precision: str) -> str | None:
    """The layers and tensors of a parsed network with another type than requested.

    Returns a text for a message, None if there are none.

    Args:
        described: `layers` ("type", "precision", "count"), `inputs` and `outputs` ("name", "dtype")
            as the worker describes a network.
        precision: fp32 or fp16. Of INT8 graphs, which hold what the budget left, see `quantised`.
    """
    wanted = _TYPES.get(precision)
    if wanted is None:
        return None
    wrong = [
        f"{layer['count']} {PRODUCTS[layer['type']]} in {layer['precision']}"
        for layer in described["layers"]
        if layer["type"] in PRODUCTS and layer["precision"] != wanted
    ]
    wrong += [
        f"{tensor['name']} is {tensor['dtype']}"
        for tensor in (*described["inputs"], *described["outputs"])
        if tensor["dtype"] not in (wanted, *_INDICES)
    ]
    return "; ".join(wrong) or None


def quantised(described: dict[str, Any]) -> int:
    """How many layers of a parsed network quantise."""
    return sum(layer["count"] for layer in described["layers"] if layer["type"] == "QUANTIZE")


def engine_types(information: dict[str, Any] | None) -> dict[str, int]:
    """Of a deserialised engine, its convolutions and products by the type that they read.

    TensorRT for RTX shows most of a network as one layer without types: then the result is empty.

    Args:
        information: the engine inspector's JSON.

    Returns:
        as {"FP16": 54, "FP32": 1}; what has no known type is left out.
    """
    return dict(Counter(_read_types(information or {})))


def engine_problem(types: dict[str, int], precision: str) -> str | None:
    """Why an engine's layers cannot be those of that precision; None if they can.

    A builder may move a Cast into its neighbour, so a single layer of another type is no proof; an
    engine without one of the right type is.
    """
    wanted = {"fp32": {"FP32"}, "fp16": {"FP16"}, "int8": {"INT8"}}[precision]
    if not types or wanted & types.keys():
        return None
    found = ", ".join(f"{count} read {kind}" for kind, count in sorted(types.items()))
    return f"none of the engine's convolutions and products reads {'/'.join(wanted)}: {found}"


def _read_types(information: dict[str, Any]) -> Iterator[str]:
    for layer in information.get("Layers", []):
        if not isinstance(layer, dict) or not _WORKERS.search(str(layer.get("LayerType", ""))):
            continue
        inputs = layer.get("Inputs") or []
        match = _FORMAT.search(str(inputs[0].get("Format/Datatype", ""))) if inputs else None
        if match:
            yield _PLAIN.get(match[1], match[1])
