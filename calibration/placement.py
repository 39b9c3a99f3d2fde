"""Which layers of a graph can be INT8, and which of their inputs get a Q/DQ pair.

Layers are found by structure, not by name, so this works for every backbone and lowering:

- every convolution with constant weights, except the decoder's last, whose result is the logits;
- every product of two activations (the correlation);
- the skip input of a residual Add, so that TensorRT fuses convolution, Add and ReLU ("Working with
  Quantized Types" of NVIDIA's TensorRT documentation, "Q/DQ placement recommendations").

Nothing else is quantised: not normalisations, not the resizing of masks, not the background
contrast and self-support (they are added to the logits), and not the sum of the two halves of a
center-pivot convolution (a group norm follows it).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx

from hsnet_trt.runtime.matching.packing import CONTRASTS

# They only move values (Pad adds zeros), so the range of their output is that of their input.
MOVING = {
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Pad",
    "Reshape",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
_LAST = MOVING | {"Add", "Cast"}  # a background contrast and self-support are added to the logits
_BACKBONE = {"Conv", "Add", "Mul", "MaxPool", "Pad", "Relu", "Clip"}


@dataclass(frozen=True)
class Layer:
    """Nodes that become INT8 together.

    Attributes:
        name: of its weights as in the checkpoint, or "correlation2".
        block: the part of the network it belongs to: "layer3.1", "squeeze2", "decoder".
        graph: features or match.
        op: Conv or MatMul.
        nodes: names of the ONNX nodes.
        pairs: (tensor that gets a Q/DQ pair, tensor whose range the pair uses).
        weights: number of weight elements.
        results: outputs (after the ReLU if one follows) that integer kernels of a CPU produce as
            8-bit integers too.
    """

    name: str
    block: str
    graph: str
    op: str
    nodes: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    weights: int = 0
    results: tuple[str, ...] = ()


@dataclass
class QDQPlacement:
    """The layers of one graph that can be INT8, and the layers that stay float."""

    graph: str
    layers: list[Layer] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # convolutions and products that stay float
    results: bool = False  # whether the ranges of results are needed

    @property
    def sources(self) -> list[str]:
        """The tensors whose ranges are needed, each once."""
        sources = [source for layer in self.layers for _, source in layer.pairs]
        if self.results:
            sources += [result for layer in self.layers for result in layer.results]
        return list(dict.fromkeys(sources))


def place(graph: str, model: onnx.ModelProto, *, results: bool = False) -> QDQPlacement:
    """Find the layers of a graph that can be INT8.

    Args:
        graph: its name, features or match.
        model: its FP32 form.
        results: True for integer kernels on a CPU, which also need the ranges of results. Products
            other than correlations (such as the means of a packed `match`) stay float there.
    """
    placement = _Finder(graph, model).found()
    if results:
        placement.results = True
        gains = [layer for layer in placement.layers if layer.op == "Conv" or layer.results]
        placement.left += [layer.name for layer in placement.layers if layer not in gains]
        placement.layers = gains
    return placement


class _Finder:
    def __init__(self, name: str, model: onnx.ModelProto) -> None:
        self.name, self.graph = name, model.graph
        self.sizes = {i.name: _elements(i) for i in model.graph.initializer}
        self.makers = {output: node for node in model.graph.node for output in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for tensor in node.input:
                self.readers.setdefault(tensor, []).append(node)
        self.outputs = {value.name for value in model.graph.output}
        self.products = self._products()
        self.same = dict(self._same())

    def found(self) -> QDQPlacement:
        placement = QDQPlacement(self.name)
        skips = dict(self._skips())
        for node in self.graph.node:
            if node.op_type == "Conv" and node.input[1] in self.sizes:
                if self._is_last(node):
                    placement.left.append(_title(node.input[1]))
                    continue
                placement.layers.append(self._convolution(node, skips))
            elif node.op_type == "MatMul" and self._stays(node):
                placement.left.append(node.name)
        for level, nodes in self.products.items():
            pairs = [self._pair(tensor) for node in nodes for tensor in node.input]
            names = tuple(node.name for node in nodes)
            results = (self._rectified(node.output[0]) for node in nodes if level.isdigit())
            placement.layers.append(
                Layer(
                    f"correlation{level}",
                    "correlation",
                    self.name,
                    "MatMul",
                    names,
                    _once(pairs),
                    results=tuple(results),
                )
            )
        return placement

    def _convolution(self, node: onnx.NodeProto, skips: dict[str, str]) -> Layer:
        name = _title(node.input[1])
        pairs = [self._pair(node.input[0])]
        if node.name in skips:
            pairs.append(self._pair(skips[node.name]))
        return Layer(
            name,
            _block(name),
            self.name,
            "Conv",
            (node.name,),
            _once(pairs),
            self.sizes[node.input[1]],
            self._results(node.output[0]),
        )

    def _skips(self) -> Iterator[tuple[str, str]]:
        """For each residual Add: the name of the convolution to fuse with, and the skip input."""
        depths = self._depths()
        for node in self.graph.node:
            if node.op_type != "Add" or not all(tensor in depths for tensor in node.input):
                continue
            # The main branch is the longer path from the fork; its last convolution is fused.
            first, second = node.input
            main, skip = (first, second) if depths[first] >= depths[second] else (second, first)
            if main in self.makers and self.makers[main].op_type == "Conv":
                yield self.makers[main].name, skip

    def _depths(self) -> dict[str, int]:
        """Nodes on the longest path from the input to each tensor computed by a backbone's ops."""
        known = {value.name: 0 for value in self.graph.input}
        for node in self.graph.node:
            inputs = [tensor for tensor in node.input if tensor and tensor not in self.sizes]
            if node.op_type in _BACKBONE and inputs and all(tensor in known for tensor in inputs):
                known[node.output[0]] = 1 + max(known[tensor] for tensor in inputs)
        return known

    def _pair(self, tensor: str) -> tuple[str, str]:
        source = self._way(tensor)[-1]
        return tensor, self.same.get(source, source)

    def _way(self, tensor: str) -> list[str]:
        """A tensor and those it was moved from, back to the computed one, which comes last."""
        way = [tensor]
        while way[-1] in self.makers and self.makers[way[-1]].op_type in MOVING:
            way.append(self.makers[way[-1]].input[0])
        return way

    def _products(self) -> dict[str, list[onnx.NodeProto]]:
        """The products of two activations, by the pyramid level they correlate."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            if node.op_type == "MatMul" and not self._stays(node):
                found.setdefault(self._level(node), []).append(node)
        return found

    def _same(self) -> Iterator[tuple[str, str]]:
        """All correlations of a level share one range, that of the product that is not pruned.

        The pruned product is a part of it; at small sizes it is a single position, often all zero.
        """
        for nodes in self.products.values():
            results = [self._rectified(node.output[0]) for node in nodes]
            whole = min(range(len(nodes)), key=lambda i: self._is_pruned(nodes[i]))
            yield from ((result, results[whole]) for result in results)

    def _rectified(self, tensor: str) -> str:
        readers = self.readers.get(tensor, [])
        alone = len(readers) == 1 and readers[0].op_type in {"Relu", "Clip"}
        return readers[0].output[0] if alone else tensor

    def _results(self, tensor: str) -> tuple[str, ...]:
        """The result that gets a pair; none if a Resize reads it.

        ONNX Runtime 1.32 makes an invalid node of a Resize between two INT8 tensors.
        """
        result = self._rectified(tensor)
        resized = any(reader.op_type == "Resize" for reader in self.readers.get(result, []))
        return () if resized else (result,)

    def _is_pruned(self, node: onnx.NodeProto) -> bool:
        ways = (self._way(tensor) for tensor in node.input)
        makers = (self.makers[tensor] for way in ways for tensor in way if tensor in self.makers)
        return any(maker.op_type == "Slice" for maker in makers)

    def _stays(self, node: onnx.NodeProto) -> bool:
        """Whether a product stays float: a resizing, or a background contrast."""
        resizes = any(tensor in self.sizes for tensor in node.input)
        return resizes or any(self._way(tensor)[-1] in CONTRASTS for tensor in node.input)

    def _is_last(self, node: onnx.NodeProto) -> bool:
        """Whether only moves and additions lie between the node and the logits."""
        if self.name != "match":
            return False
        waiting, seen = list(node.output), set(node.output)
        while waiting:
            tensor = waiting.pop()
            if tensor in self.outputs:
                return True
            for reader in self.readers.get(tensor, []):
                if reader.op_type in _LAST:
                    waiting += [name for name in reader.output if name not in seen]
                    seen.update(reader.output)
        return False

    def _level(self, node: onnx.NodeProto) -> str:
        """The pyramid level of a correlation, from the support input it reads."""
        for tensor in node.input:
            source = self._way(tensor)[-1]
            if source in {"s2", "s3", "s4"}:
                return source[1]
        return f" {node.name}"


def _once(pairs: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(dict.fromkeys(pairs))


def _title(weight: str) -> str:
    return weight.removesuffix(".weight").removeprefix("backbone.")


def _block(layer: str) -> str:
    """The stage of a backbone or the block of the squeeze network: the name up to its number."""
    parts = layer.split(".")
    kept = [parts[0]]
    if len(parts) > 2 and parts[1].isdigit():
        kept.append(parts[1])
    return ".".join(kept)


def _elements(tensor: onnx.TensorProto) -> int:
    count = 1
    for extent in tensor.dims:
        count *= extent
    return count
