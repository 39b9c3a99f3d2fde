"""Parse a model with TensorRT for RTX and build it, in a process of its own; print JSON.

``rtx_child.py model.onnx python|none|<plugin library> override|plain``. A process that parses an
IPluginV3 without a file named libtensorrt_rtx.so on its path aborts: the caller puts it there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(model: str, plugin: str, flag: str) -> None:
    import tensorrt_rtx as trt

    from hsnet_trt.trt_plugins import python_plugin

    logger = trt.Logger(trt.Logger.ERROR)
    if plugin == "python":
        python_plugin.register(trt, Path("not there yet.fatbin"))
        python_plugin.register(trt)  # again: nothing happens
    elif plugin != "none":
        trt.get_plugin_registry().load_library(plugin)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if flag == "override":
        parser.set_flag(trt.OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE)
    parsed = parser.parse(Path(model).read_bytes())
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    answer = {
        "parsed": parsed,
        "errors": [parser.get_error(i).desc() for i in range(parser.num_errors)],
        "plugins": sum(layer.type == trt.LayerType.PLUGIN_V3 for layer in layers),
        "products": sum(layer.type == trt.LayerType.MATRIX_MULTIPLY for layer in layers),
        "outputs": [[str(t.dtype).split(".")[-1], *t.shape] for t in outputs],
        "engine_bytes": 0,
    }
    if parsed:
        config = builder.create_builder_config()
        profile = builder.create_optimization_profile()
        for i in range(network.num_inputs):
            tensor = network.get_input(i)
            rest = tuple(tensor.shape)[1:]
            profile.set_shape(tensor.name, (1, *rest), (2, *rest), (3, *rest))
        config.add_optimization_profile(profile)
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM89, 0)
        if plugin not in ("python", "none"):
            config.plugins_to_serialize = [plugin]
        engine = builder.build_serialized_network(network, config)
        answer["engine_bytes"] = 0 if engine is None else engine.nbytes
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
