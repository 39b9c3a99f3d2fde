"""Writing an ONNX graph node by node, for graphs that PyTorch's exporter cannot write as needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import Tensor


class GraphWriter:
    """Collects nodes and constants; a value is known by its name."""

    def __init__(self, prefix: str = "") -> None:
        """`prefix` keeps names distinct from those of a graph that the nodes are added to."""
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a node; returns its output's name, or the first of NAME_0, NAME_1, ..."""
        name = f"{self.prefix}{kind.lower()}_{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}_{k}" for k in range(outputs)]
        node = helper.make_node(kind, inputs, names, name=f"node_{name}", **attributes)
        self.nodes.append(node)
        return names[0]

    def constant(self, value: Any) -> str:
        """The name of a constant (a tensor, an array, or integers); equal ones share one."""
        if isinstance(value, Tensor):
            value = value.detach().numpy()
        array = np.ascontiguousarray(value)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"{self.prefix}constant_{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(array, name)
        return self._constants[key].name

    @property
    def constants(self) -> list[onnx.TensorProto]:
        """All constants, in the order of their first use."""
        return list(self._constants.values())

    def model(
        self,
        inputs: list[onnx.ValueInfoProto],
        outputs: list[onnx.ValueInfoProto],
        opset: int,
        ir_version: int,
    ) -> onnx.ModelProto:
        """The nodes and constants as a model."""
        graph = helper.make_graph(self.nodes, "hsnet-trt", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=ir_version, producer_name="hsnet-trt"
        )
