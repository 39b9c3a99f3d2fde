"""The op as an ``IPluginV3`` in Python, with the compiled kernels: for TensorRT from pip.

It needs no TensorRT headers and, if ``correlation.fatbin`` is present, no nvcc. Engines built with
it use the same plugin name as the C++ library, so either can run them. TensorRT developer guide,
"Adding Custom Layers using the Python API".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hsnet_trt.errors import BackendError, InputError
from hsnet_trt.trt_plugins.compile_kernels import FATBIN
from hsnet_trt.trt_plugins.driver import CorrelationKernels
from hsnet_trt.trt_plugins.plan import Plan
from hsnet_trt.trt_plugins.sizes import DOMAIN, OP, VERSION, CorrelationSizes

_FIELDS = tuple(CorrelationSizes(1, 1, 1, 1, 1).attributes())

# TensorRT keeps no reference to a Python creator, which would be freed while registered.
_CREATORS: dict[str, Any] = {}


def register(trt: Any, kernels: Path | bytes = FATBIN) -> None:
    """Register the plugin with TensorRT; a second call does nothing.

    Args:
        trt: the module ``tensorrt`` or ``tensorrt_rtx``.
        kernels: the compiled kernels, or their file. The file is read when an engine first runs,
            so it is not needed to build engines ahead of time.

    Raises:
        BackendError: this TensorRT is too old, or another plugin has the name.
    """
    if trt.__name__ in _CREATORS:
        return
    if not hasattr(trt, "IPluginV3"):
        raise BackendError(
            f"{trt.__name__} {trt.__version__} has no IPluginV3",
            expected="TensorRT 10.3 or later",
            found=trt.__version__,
            fix="upgrade TensorRT, or export with the native correlation",
        )
    creator = _creator_class(trt, _plugin_class(trt, kernels))()
    if not trt.get_plugin_registry().register_creator(creator, ""):
        raise BackendError(
            f"{trt.__name__} refused the plugin {OP}",
            expected=f"no other plugin named {OP}, version {VERSION}",
            fix="load either the C++ library or the Python plugin, not both",
        )
    _CREATORS[trt.__name__] = creator


def _read(collection: Any) -> CorrelationSizes:
    values = {}
    for field in collection:
        data = np.asarray(field.data).reshape(-1)
        if field.name in _FIELDS and data.size == 1 and data.dtype.kind == "i":
            values[field.name] = int(data[0])
    return CorrelationSizes.from_attributes(values)


def _plugin_class(trt: Any, kernels: Path | bytes) -> type:
    element_bytes = {trt.DataType.HALF: 2, trt.DataType.FLOAT: 4}
    shared: list[CorrelationKernels] = []  # shared by all instances; read at the first run

    def loaded() -> CorrelationKernels:
        if not shared:
            shared.append(CorrelationKernels(kernels))
        return shared[0]

    bases = (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime)

    def fields_of(sizes: CorrelationSizes) -> list[Any]:
        return [
            trt.PluginField(name, np.array([value], np.int32), trt.PluginFieldType.INT32)
            for name, value in sizes.attributes().items()
        ]

    class CorrelationPlugin(*bases):  # type: ignore[misc]
        def __init__(self, sizes: CorrelationSizes) -> None:
            for base in bases:
                base.__init__(self)
            self.plugin_name = OP
            self.plugin_version = str(VERSION)
            self.plugin_namespace = ""
            self.num_outputs = 2
            self.sizes = sizes
            values = " ".join(str(value) for value in sizes.attributes().values())
            self.timing_cache_id = f"{OP} {VERSION} {values}"
            self._serialized = fields_of(sizes)
            # A collection holds pointers to the fields' data, but does not keep the data alive.
            self._collection = trt.PluginFieldCollection(self._serialized)

        def get_capability_interface(self, kind: Any) -> Any:
            return self

        def clone(self) -> Any:
            return CorrelationPlugin(self.sizes)

        def attach_to_context(self, context: Any) -> Any:
            return self.clone()

        def get_fields_to_serialize(self) -> Any:
            return self._collection  # TensorRT reads it after this has returned

        def get_output_data_types(self, inputs: Any) -> Any:
            index = trt.DataType.INT32
            floats = inputs[0] == inputs[1] and inputs[0] in element_bytes
            if not floats or list(inputs[2:]) != [index, index]:
                raise InputError(
                    f"{DOMAIN}::{OP}: the inputs' types do not fit",
                    expected="query and columns both FP16 or both FP32, positions and counts INT32",
                    found=" and ".join(str(kind) for kind in inputs),
                    fix="cast them, or export with the native correlation",
                )
            return [inputs[0], inputs[0]]

        def get_output_shapes(self, inputs: Any, shape_inputs: Any, builder: Any) -> Any:
            sizes = self.sizes
            times = trt.DimensionOperation.PROD
            pairs = builder.operation(times, inputs[0][0], inputs[1][0])
            outputs = []
            for positions, height, width in (
                (sizes.query_positions, sizes.support_h, sizes.support_w),
                (sizes.pruned_h * sizes.pruned_w, sizes.query_h, sizes.query_w),
            ):
                shape = trt.DimsExprs(4)
                shape[0] = builder.operation(times, pairs, builder.constant(positions))
                shape[1] = inputs[0][1]
                shape[2] = builder.constant(height)
                shape[3] = builder.constant(width)
                outputs.append(shape)
            return outputs

        def supports_format_combination(self, position: int, tensors: Any, inputs: int) -> bool:
            desc = tensors[position].desc
            known = element_bytes if position == 0 else {tensors[0].desc.type}
            if position in (2, 3):
                known = {trt.DataType.INT32}
            return bool(desc.format == trt.TensorFormat.LINEAR and desc.type in known)

        def configure_plugin(self, inputs: Any, outputs: Any) -> None:
            self.sizes.output_shapes(*(tuple(tensor.max) for tensor in inputs))

        def get_workspace_size(self, inputs: Any, outputs: Any) -> int:
            return 0

        def on_shape_change(self, inputs: Any, outputs: Any) -> None:
            self.sizes.output_shapes(*(tuple(tensor.dims) for tensor in inputs))

        def set_tactic(self, tactic: int) -> None:
            pass

        def enqueue(
            self,
            in_desc: Any,
            out_desc: Any,
            inputs: Any,
            outputs: Any,
            workspace: int,
            stream: int,
        ) -> None:
            # Failures must raise: TensorRT ignores the status that a Python plugin returns.
            size = element_bytes[in_desc[0].type]
            plan = Plan.of(self.sizes, [tuple(tensor.dims) for tensor in in_desc], size)
            loaded().launch(plan, plan.problem([*inputs, *outputs]), stream)

    return CorrelationPlugin


def _creator_class(trt: Any, plugin: type) -> type:
    class CorrelationCreator(trt.IPluginCreatorV3One):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name = OP
            self.plugin_namespace = ""
            self.plugin_version = str(VERSION)
            self._fields = [
                trt.PluginField(name, np.array([], np.int32), trt.PluginFieldType.INT32)
                for name in _FIELDS
            ]
            self._collection = trt.PluginFieldCollection(self._fields)  # see `CorrelationPlugin`
            self.field_names = self._collection

        def create_plugin(self, name: str, collection: Any, phase: Any) -> Any:
            return plugin(_read(collection))

    return CorrelationCreator
