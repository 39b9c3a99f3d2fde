"""Memory of a graph's activations, and its largest tensor, as functions of the batch.

Counted on the ONNX graph at export, so that a machine without onnx can refuse a profile before it
builds an engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

import onnx
from onnx import shape_inference

from hsnet_trt.runtime.bundle.manifest import Growth

# Their output is the same bytes under another name.
VIEWS = {"Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity"}
_TYPICAL = (4, 5)  # queries and supports at which the peak is determined
# TensorRT-RTX 1.7 reserved 1.13 to 1.24 times the memory counted here for `match` of ResNet-50 at
# 400 x 400, over profiles of 1 x 1 to 1 x 50 and both lowerings.
_RESERVE = 1.25


@dataclass(frozen=True)
class Tensor:
    """A tensor's shape and type, as NumPy names it."""

    shape: tuple[int, ...]
    dtype: str
    itemsize: int

    @property
    def elements(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Memory in bytes."""
        return self.elements * self.itemsize


def footprint(
    model: onnx.ModelProto, most: Mapping[str, Growth] | None = None
) -> tuple[Growth, Growth]:
    """Count a graph's memory as a function of the batch.

    Args:
        model: the graph.
        most: the largest extents of its dimensions other than N, B and S.

    Returns:
        (elements of the largest tensor, peak bytes of the activations). The peak counts every
        tensor from the node that makes it to the last one that reads it. Fused kernels need less; a
        quarter is added for an engine's own workspace.
    """
    sizes = _sizes(model, most or {})
    elements = {name: growth for name, (growth, _) in sizes.items()}
    largest = max(elements.values(), key=lambda growth: growth.at(*_TYPICAL))
    return largest, _peak(model, sizes)


def _peak(model: onnx.ModelProto, sizes: dict[str, tuple[Growth, int]]) -> Growth:
    home: dict[str, str] = {}  # view -> the tensor that owns its bytes
    for node in model.graph.node:
        if node.op_type in VIEWS:
            home[node.output[0]] = home.get(node.input[0], node.input[0])
    last: dict[str, int] = {}
    for index, node in enumerate(model.graph.node):
        for name in node.input:
            last[home.get(name, name)] = index
    for value in model.graph.output:
        last[home.get(value.name, value.name)] = len(model.graph.node)

    def bytes_of(names: Iterable[str]) -> Growth:
        known = [sizes[name] for name in names if name in sizes]
        return Growth(
            *(
                int(_RESERVE * sum(getattr(growth, part) * width for growth, width in known))
                for part in ("constant", "per_query", "per_support", "per_pair")
            )
        )

    alive = {value.name for value in model.graph.input}
    peak = bytes_of(alive)
    for index, node in enumerate(model.graph.node):
        alive |= {name for name in node.output if name not in home}
        now = bytes_of(alive)
        if now.at(*_TYPICAL) > peak.at(*_TYPICAL):
            peak = now
        alive = {name for name in alive if last.get(name, -1) > index}
    return peak


def _sizes(model: onnx.ModelProto, most: Mapping[str, Growth]) -> dict[str, tuple[Growth, int]]:
    """Every tensor's number of elements as a function of the batch, and its bytes per element."""
    corners = {
        (b, s): tensors_of(
            model, {"N": b, "B": b, "S": s} | {name: grown.at(b, s) for name, grown in most.items()}
        )
        for b, s in ((1, 1), (2, 1), (1, 2), (2, 2))
    }
    result = {}
    for name, tensor in corners[1, 1].items():
        if any(name not in corner for corner in corners.values()):
            continue
        at11, at21, at12, at22 = (corner[name].elements for corner in corners.values())
        pair = at22 - at21 - at12 + at11
        query, support = at21 - at11 - pair, at12 - at11 - pair
        result[name] = (
            Growth(at11 - query - support - pair, query, support, pair),
            tensor.itemsize,
        )
    return result


def tensors_of(model: onnx.ModelProto, batch: Mapping[str, int]) -> dict[str, Tensor]:
    """Tensors whose shape can be inferred, with the named dimensions set as in `batch`."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in batch:
                dim.dim_value = batch[dim.dim_param]
    inferred = shape_inference.infer_shapes(fixed, data_prop=True).graph
    found = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        tensor = value.type.tensor_type
        dims = tuple(dim.dim_value for dim in tensor.shape.dim)
        if dims and all(dims):
            kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            found[value.name] = Tensor(dims, kind.name, kind.itemsize)
    return found
