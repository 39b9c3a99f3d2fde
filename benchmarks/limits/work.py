"""Count the work of an ONNX graph: floating-point operations, and bytes.

Operations are the multiplications and additions of convolutions and matrix products, two for each
weight and output. Everything else (norms, resizing, sums) counts only by the bytes it moves, which
decide its time on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx
from onnx import inliner

from hsnet_trt.errors import ExportError
from hsnet_trt.export.graphs.footprint import VIEWS, Tensor, tensors_of

# They only read the shape of a tensor, or are constants.
_FREE = {*VIEWS, "Shape", "Constant", "ConstantOfShape"}
_PARTIAL = {"Slice", "Gather", "GatherElements", "GatherND", "Expand"}  # read as much as they write
_INTEGER = {"ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul"}
_MATRIX = {"MatMul", "Gemm", *_INTEGER} - {"ConvInteger", "QLinearConv"}
_CONVOLUTION = {"Conv", "ConvInteger", "QLinearConv"}
_TYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}


@dataclass(frozen=True)
class Step:
    """The work of one node."""

    op: str
    flops: int
    read: int  # bytes
    written: int
    precision: str  # fp32 | fp16 | int8 ...: of the products
    width: int = 0  # convolution: min(channels in, out); matrix product: min(inner size, columns)
    columns: int = 0  # of a matrix product's result


@dataclass(frozen=True)
class Work:
    """The work of one or more runs of graphs."""

    steps: tuple[Step, ...] = ()
    # Bytes that must be moved even with perfect fusion: weights, inputs, outputs of each graph.
    needed_bytes: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.steps + other.steps, self.needed_bytes + other.needed_bytes)

    @property
    def flops(self) -> int:
        """All floating-point (or integer) operations."""
        return sum(step.flops for step in self.steps)

    @property
    def moved_bytes(self) -> int:
        """Bytes moved if every node reads its inputs from memory and writes its outputs to it."""
        return sum(step.read + step.written for step in self.steps)

    def flops_by_precision(self) -> dict[str, int]:
        """Operations by the precision they are computed in."""
        found: dict[str, int] = {}
        for step in self.steps:
            if step.flops:
                found[step.precision] = found.get(step.precision, 0) + step.flops
        return found

    def floor_s(self, rates: dict[str, float], bandwidth: float) -> float:
        """The roofline: a lower bound in seconds, even with perfect fusion.

        Args:
            rates: operations per second by precision; must have those of `flops_by_precision`.
            bandwidth: bytes per second.
        """
        computing = sum(n / rates[kind] for kind, n in self.flops_by_precision().items())
        return max(computing, self.needed_bytes / bandwidth)

    def unfused_s(self, rates: dict[str, float], bandwidth: float) -> float:
        """The sum of every node's own roofline: seconds without fusion, at peak rates."""
        return sum(
            max(
                step.flops / rates[step.precision] if step.flops else 0.0,
                (step.read + step.written) / bandwidth,
            )
            for step in self.steps
        )


def count(model: onnx.ModelProto, **batch: int) -> Work:
    """The work of one run.

    Args:
        model: the graph; its functions are inlined.
        batch: values of the named dimensions, such as N images, B queries, S supports.

    Raises:
        ExportError: a shape that is needed cannot be inferred.
    """
    if model.functions:
        model = inliner.inline_local_functions(model)
    graph = model.graph
    known = tensors_of(model, batch)
    constants = {w.name: w for w in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for name, weight in constants.items():
        kind = onnx.helper.tensor_dtype_to_np_dtype(weight.data_type)
        known[name] = Tensor(tuple(weight.dims), kind.name, kind.itemsize)
    # A product of two of these is computed in integers if there is a kernel for it.
    quantised = {
        node.output[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and known[node.input[0]].itemsize == 1
    }
    steps = tuple(_step(node, known, quantised) for node in graph.node if node.op_type not in _FREE)
    ends = [*(v.name for v in (*graph.input, *graph.output)), *(w.name for w in graph.initializer)]
    return Work(steps, sum(known[name].bytes for name in dict.fromkeys(ends) if name in known))


def _step(node: onnx.NodeProto, known: dict[str, Tensor], quantised: set[str]) -> Step:
    inputs = [known[name] for name in node.input if name in known]
    outputs = [known[name] for name in node.output if name in known]
    flops, precision, width, columns = 0, "", 0, 0
    if node.op_type in _MATRIX | _CONVOLUTION | {"ConvTranspose", "Einsum"}:
        needed = [*node.input, *node.output]
        missing = [name for name in needed if name and name not in known]
        if missing:
            raise ExportError(
                f"the work of {node.op_type} {node.name} cannot be counted",
                expected="shapes that can be inferred",
                found=f"none for {', '.join(missing)}",
            )
        flops = _flops(node, inputs, outputs)
        integer = node.op_type in _INTEGER or quantised.issuperset(node.input[:2])
        precision = "int8" if integer else _TYPES.get(inputs[1].dtype, inputs[1].dtype)
        width, columns = _form(node, inputs, outputs)
    written = sum(tensor.bytes for tensor in outputs)
    read = written if node.op_type in _PARTIAL else sum(tensor.bytes for tensor in inputs)
    return Step(node.op_type, flops, read, written, precision, width, columns)


def _form(node: onnx.NodeProto, inputs: list[Tensor], outputs: list[Tensor]) -> tuple[int, int]:
    """`Step.width` and `Step.columns` of a product."""
    if node.op_type in _CONVOLUTION | {"ConvTranspose"}:
        weight = inputs[3 if node.op_type == "QLinearConv" else 1].shape
        return min(weight[0], weight[1]), 0
    if node.op_type not in _MATRIX:
        return 0, 0
    out = outputs[0].shape[-1]
    return min(out, inputs[0].shape[-1]), out


def _flops(node: onnx.NodeProto, inputs: list[Tensor], outputs: list[Tensor]) -> int:
    out = prod(outputs[0].shape)
    if node.op_type in _CONVOLUTION:
        # inputs of QLinearConv: x, its scale and zero, w
        weight = inputs[3 if node.op_type == "QLinearConv" else 1].shape
        return 2 * out * prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return 2 * prod(inputs[0].shape) * prod(inputs[1].shape[1:])
    if node.op_type == "Einsum":
        equation = next(a.s.decode() for a in node.attribute if a.name == "equation")
        letters: dict[str, int] = {}
        for term, tensor in zip(equation.split("->")[0].split(","), inputs, strict=True):
            letters.update(zip(term.strip(), tensor.shape, strict=True))
        return 2 * prod(letters.values())
    first = inputs[0].shape
    transposed = node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute)
    return 2 * out * first[-2 if transposed else -1]
