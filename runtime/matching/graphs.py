"""The names of the three graphs and of their inputs and outputs."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, TypeAlias

import numpy.typing as npt

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.bundle.manifest import GraphFile
from hsnet_trt.runtime.matching.packing import CONTRASTS, LEVELS

Tensors: TypeAlias = "dict[str, npt.NDArray[Any]]"

FEATURES = ("f2", "f3", "f4")
SUPPORTS = LEVELS
PACKED_INPUTS = (*SUPPORTS, "w2", "w3", "w4", "p2", "p3", "p4")  # of a packed `match`
# Of a `match` with the correlation plugin; see `packing.side_by_side`.
COLUMN_INPUTS = (*SUPPORTS, "a2", "a3", "a4", "n2", "n3", "n4")
GRAPHS = ("features", "support", "match")
INPUTS = {"features": ("image",), "support": (*FEATURES, "mask"), "match": (*FEATURES, *SUPPORTS)}
OUTPUTS = {"features": FEATURES, "support": SUPPORTS, "match": ("logits",)}


def names_of(
    graph: str, *, contrast: bool, columns: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of a graph's inputs and outputs.

    Args:
        graph: features, support or match.
        contrast: whether the network has a background contrast: adds `c3` and `c4`.
        columns: whether the graph is a `match` that takes its supports as columns.
    """
    inputs = (*FEATURES, *COLUMN_INPUTS) if columns else INPUTS[graph]
    if contrast and graph == "match":
        inputs = (*inputs, *CONTRASTS)
    outputs = (*OUTPUTS[graph], *CONTRASTS) if contrast and graph == "support" else OUTPUTS[graph]
    return inputs, outputs


def takes_columns(graph: GraphFile) -> bool:
    """Whether a `match` takes its supports as columns."""
    return graph.variant.correlation == "plugin"


def inputs_of_supports(names: Container[str]) -> tuple[str, ...]:
    """Those of the names that are support inputs of an unpacked `match`, in order."""
    return tuple(name for name in (*COLUMN_INPUTS, *CONTRASTS) if name in names)


def not_finite(where: str) -> BackendError:
    """The error of logits that are infinite or NaN."""
    return BackendError(
        "the network's logits are not finite",
        expected="finite numbers",
        found=f"infinity or NaN, {where}",
        fix="run `hsnet-trt verify` on the bundle, and use precision fp32 if fp16 overflows",
    )
