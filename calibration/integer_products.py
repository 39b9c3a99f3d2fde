"""Integer products of two activations, for ONNX Runtime on a CPU.

Q/DQ pairs are not enough: given pairs, ONNX Runtime turns both operands into UINT8 and multiplies
them at half the speed of UINT8 by INT8. Here the product is a `QLinearMatMul` with supports in
UINT8 (zero point 128) and queries in INT8. The result is never negative: UINT8 with zero point 0
makes the ReLU unnecessary. Operations that only move the result move its bytes; it is dequantised
where arithmetic needs floats.

The queries' scale leaves one bit unused, because processors without VNNI add two products in 16
bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hsnet_trt.calibration.placement import MOVING, Layer

_ONE_BIT_LESS = 63


def in_integers(
    model: onnx.ModelProto, layers: Sequence[Layer], thresholds: Mapping[str, float]
) -> None:
    """Replace the products of `layers` by integer operators, in place.

    Args:
        model: a graph whose convolutions already have their Q/DQ pairs.
        layers: from `placement.place`: MatMuls of a support with a query, each followed by a ReLU.
        thresholds: for each source tensor, the largest |x| that is not clipped.
    """
    for layer in layers:
        for name, result in zip(layer.nodes, layer.results, strict=True):
            _Product(model.graph, name, result, dict(layer.pairs), thresholds).write()


class _Product:
    """One product: `left` [..,M,K] of a support times `right` [..,K,N] of a query."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        name: str,
        result: str,
        sources: Mapping[str, str],
        thresholds: Mapping[str, float],
    ) -> None:
        self.graph, self.result = graph, result
        (self.product,) = (node for node in graph.node if node.name == name)
        (self.last,) = (node for node in graph.node if result in node.output)
        left, right = self.product.input
        self.left = self._quantised(left, thresholds[sources[left]] / 127, np.uint8(128))
        self.right = self._quantised(right, thresholds[sources[right]] / _ONE_BIT_LESS, np.int8(0))
        # The scale that the quantiser computes too, so that pairs on a convolution's input match.
        self.scale = np.float32(thresholds[result]) / np.float32(255)

    def write(self) -> None:
        """Replace the old nodes by the new ones."""
        at = list(self.graph.node).index(self.last)
        made: list[onnx.NodeProto] = []
        operands = []
        for tensor, scale, zero in (self.left, self.right):
            quantised = f"{tensor}_integers"
            made.append(helper.make_node("QuantizeLinear", [tensor, scale, zero], [quantised]))
            operands += [quantised, scale, zero]
        scale = self._constant(f"{self.result}_integers_scale", self.scale)
        zero = self._constant(f"{self.result}_integers_zero", np.uint8(0))
        whole = f"{self.result}_integers"
        operands += [scale, zero]
        made.append(helper.make_node("QLinearMatMul", operands, [whole], self.product.name))
        for node in made:
            self.graph.node.insert(at, node)
            at += 1
        if self.last is not self.product:
            self.graph.node.remove(self.last)
        self.graph.node.remove(self.product)
        self._follow(self.result, whole, scale, zero)

    def _follow(self, tensor: str, integers: str, scale: str, zero: str) -> None:
        """Pass the integers on to a tensor's readers; dequantise it for those that need floats."""
        readers = [node for node in self.graph.node if tensor in node.input]
        floats = []
        for reader in readers:
            if reader.op_type in MOVING and reader.input[0] == tensor:
                reader.input[0] = integers
                moved, reader.output[0] = reader.output[0], f"{reader.output[0]}_integers"
                self._follow(moved, reader.output[0], scale, zero)
            elif reader.op_type == "QuantizeLinear" and self._same(reader, scale, zero):
                self.graph.node.remove(reader)
                for other in self.graph.node:
                    for index, name in enumerate(other.input):
                        if name == reader.output[0]:
                            other.input[index] = integers
            else:
                floats.append(reader)
        if floats:
            at = min(list(self.graph.node).index(reader) for reader in floats)
            node = helper.make_node("DequantizeLinear", [integers, scale, zero], [tensor])
            self.graph.node.insert(at, node)

    def _same(self, node: onnx.NodeProto, scale: str, zero: str) -> bool:
        """Whether a QuantizeLinear has the scale and zero point of the product's result."""
        return all(
            np.array_equal(self._value(a), self._value(b))
            and self._value(a).dtype == self._value(b).dtype
            for a, b in zip(node.input[1:], (scale, zero), strict=True)
        )

    def _quantised(self, tensor: str, scale: float, zero: np.generic) -> tuple[str, str, str]:
        return (
            tensor,
            self._constant(f"{tensor}_integers_scale", np.float32(scale)),
            self._constant(f"{tensor}_integers_zero", zero),
        )

    def _constant(self, name: str, value: np.generic) -> str:
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _value(self, name: str) -> np.ndarray:
        return next(numpy_helper.to_array(t) for t in self.graph.initializer if t.name == name)
