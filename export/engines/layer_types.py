"""Check from the types of its layers that a network has the requested precision.

A graph exported as FP16 whose convolutions were parsed in FP32 gives right answers in twice the
time and memory. No other check would find that.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

# The layers that do most of the work: TensorRT's LayerType -> its name in messages.
PRODUCTS = {
    "CONVOLUTION": "convolutions",
    "DECONVOLUTION": "deconvolutions",
    "MATRIX_MULTIPLY": "matrix products",
}
_TYPES = {"fp32": "FLOAT", "fp16": "HALF"}
_INDICES = ("INT32", "INT64")  # indices and counts of columns, which any precision may have

# Names in engines: layers are called "CaskConvolution", "gemm" ...; formats "... FP16 format".
_WORKERS = re.compile(r"conv|gemm|matmul|matrix", re.IGNORECASE)
_FORMAT = re.compile(r"\b(FP32|FP16|BF16|INT8|FP8|Float|Half|Int8)\b")
_PLAIN = {"Float": "FP32", "Half": "FP16", "Int8": "INT8"}


def wrong_types(described: dict[str, Any], precision: str) -> str | None:
    """The layers and tensors of a parsed network that have another type than requested.

    Args:
        described: `layers` ("type", "precision", "count"), `inputs` and `outputs` ("name", "dtype")
            as the worker describes a network.
        precision: fp32 or fp16; others are not checked (for INT8 see `quantised`).

    Returns:
        a text for a message; None if there are none.
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
    """The number of quantising layers in a parsed network."""
    return sum(layer["count"] for layer in described["layers"] if layer["type"] == "QUANTIZE")


def engine_types(information: dict[str, Any] | None) -> dict[str, int]:
    """Count an engine's convolutions and matrix products by the type they read.

    TensorRT for RTX shows most of a network as one layer without types: the result is then empty.

    Args:
        information: the engine inspector's JSON; None if it gave none.

    Returns:
        counts such as {"FP16": 54, "FP32": 1}; layers without a known type are left out.
    """
    return dict(Counter(_read_types(information or {})))


def engine_problem(types: dict[str, int], precision: str) -> str | None:
    """Why an engine's layers cannot have that precision; None if they can.

    A builder may fuse a Cast into its neighbour, so single layers of another type prove nothing; an
    engine without any layer of the right type does.
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
