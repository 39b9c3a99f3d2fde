"""The graphs of one size as a bundle's files, in each precision that is wanted."""

from __future__ import annotations

import onnx

from hsnet_trt import __version__
from hsnet_trt.export.graphs.footprint import footprint
from hsnet_trt.export.graphs.graphs import OPSET
from hsnet_trt.export.graphs.lowering import Grid
from hsnet_trt.export.graphs.lowering_packed import most_packed
from hsnet_trt.export.precision.fp16 import to_fp16
from hsnet_trt.runtime.backends import CPU_LOWERING
from hsnet_trt.runtime.bundle import BundleWriter
from hsnet_trt.runtime.bundle.manifest import (
    GraphFile,
    Growth,
    Model,
    PackedLevel,
    TensorSpec,
    Variant,
)
from hsnet_trt.trt_plugins.onnx_op import drop_function


class GraphFiles:
    """Adds the graphs of one size to the bundle, in each precision.

    Attributes:
        props: metadata written into every graph.
        grows: the activation bytes of the graph that was added last, in FP32.
    """

    def __init__(
        self,
        writer: BundleWriter,
        model: Model,
        size: Grid,
        precisions: tuple[str, ...],
        packing: tuple[PackedLevel, PackedLevel, PackedLevel],
        entries: list[GraphFile],
    ) -> None:
        self.writer, self.size, self.precisions, self.entries = writer, size, precisions, entries
        self.packing, self.grows = packing, Growth()
        level2, level3, level4 = packing
        self.grids = (level2.grid, level3.grid, level4.grid)
        self.at = f"{size[0]}x{size[1]}"
        self.props = {
            "backbone": model.backbone,
            "weights_sha256": model.weights_sha256,
            "size": self.at,
            "made_by": f"hsnet-trt {__version__}",
        }

    def add(
        self, graph: str, lowering: str, model: onnx.ModelProto, correlation: str = ""
    ) -> dict[str, onnx.ModelProto]:
        """Add a graph to the bundle; returns it by precision, always including FP32.

        CPUs run packed graphs, and nothing in FP16.
        """
        made = {"fp32": model}
        if "fp16" in self.precisions and lowering != CPU_LOWERING:
            made["fp16"] = to_fp16(model)
        packing = self.packing if lowering == CPU_LOWERING else ()
        self.grows = footprint(model, most_packed(packing))[1]
        for precision in (p for p in self.precisions if p in made):
            self._write(
                Variant(graph, self.size, precision, lowering, correlation), made[precision]
            )
        return made

    def _write(self, variant: Variant, model: onnx.ModelProto) -> None:
        form = "plugin" if variant.correlation == "plugin" else ""
        parts = [variant.graph, self.at, variant.precision, variant.lowering, form]
        name, bare = "_".join(filter(None, parts)), None
        if form:
            bare = f"graphs/{name}_bare.onnx"
            self.writer.add(bare, drop_function(model).SerializeToString())
        packing = self.packing if variant.lowering == CPU_LOWERING else ()
        largest, activations = footprint(model, most_packed(packing))
        self.entries.append(
            GraphFile(
                variant=variant,
                file=self.writer.add(f"graphs/{name}.onnx", model.SerializeToString()),
                opset=OPSET,
                inputs=tuple(_spec(value) for value in model.graph.input),
                outputs=tuple(_spec(value) for value in model.graph.output),
                largest_tensor=largest,
                activation_bytes=activations,
                grids=self.grids,
                bare=bare,
                packing=packing,
            )
        )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    dims = tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
    return TensorSpec(value.name, kind.name, dims)
