"""Triton's `config.pbtxt` of each model, written and read with Triton's own protobuf schema."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from hsnet_trt.errors import ExportError
from hsnet_trt.runtime.bundle.manifest import GraphFile, TensorSpec
from hsnet_trt.runtime.matching.graphs import FEATURES, GRAPHS
from hsnet_trt.runtime.matching.packing import CONTRASTS
from hsnet_trt.runtime.ort.cuda import OPTIONS
from hsnet_trt.serving.triton_server.files import MODEL_FILES, Served
from hsnet_trt.serving.triton_server.protocol import INPUTS, OUTPUTS

LIBRARY = "libhsnet_correlation.so"

_TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
}
# With KIND_AUTO, the ONNX Runtime backend uses a GPU if there is one; KIND_GPU requires one.
_INSTANCES = {
    "tensorrt": "KIND_GPU",
    "onnxruntime_cuda": "KIND_GPU",
    "onnxruntime": "KIND_AUTO",
    "python": "KIND_CPU",
}
# While a new version loads, the old one keeps serving.
_VERSIONS = {"latest": {"num_versions": 2}}
_QUEUE = {
    "timeout_action": "REJECT",
    "default_timeout_microseconds": 60_000_000,
    "allow_timeout_override": True,
    "max_queue_size": 128,
}
# Fields that operators may change; everything else follows from the network.
TUNABLE = ("instance_group", "dynamic_batching", "model_warmup", "version_policy", "optimization")
_TUNABLE_PARAMETERS = ("store_megabytes", "device_megabytes", "idle_seconds", "most_megapixels")


def graph_config(name: str, graph: str, served: Served) -> dict[str, Any]:
    """The configuration of a model that runs one graph.

    `features` and `support` are batched along their first dimension, so the server may merge
    clients' requests. `match` has two dynamic dimensions, queries and supports; Triton can batch
    along one only, so its shapes are given in full, without batching.
    """
    entry, limits = served.graphs[graph], served.limits
    most = {"features": limits.images, "support": limits.shots, "match": 0}[graph]
    config: dict[str, Any] = {
        "name": name,
        "backend": served.platform.removesuffix("_cuda"),
        "max_batch_size": most,
        "version_policy": _VERSIONS,
        "input": [_tensor(spec, most) for spec in entry.inputs],
        "output": [_tensor(spec, most) for spec in entry.outputs],
        "instance_group": [{"kind": _INSTANCES[served.platform], "count": 1}],
        "model_warmup": [
            {
                "name": "zeros",
                "batch_size": 1,
                "inputs": {s.name: {**_shape(s, most, 1), "zero_data": True} for s in entry.inputs},
            }
        ],
    }
    if most > 1:
        config["dynamic_batching"] = {"max_queue_delay_microseconds": 1000}
    if served.platform == "onnxruntime_cuda":
        cuda = {"name": "cuda", "parameters": OPTIONS}
        config["optimization"] = {"execution_accelerators": {"gpu_execution_accelerator": [cuda]}}
    files = served.files[graph]
    if list(files) == [MODEL_FILES[served.platform]]:
        if served.platform != "python":
            config["default_model_filename"] = MODEL_FILES[served.platform]
    else:
        config["cc_model_filenames"] = served.capabilities[graph]
    if graph == "match" and served.plugin is not None:
        config["parameters"] = {"plugin": {"string_value": LIBRARY}}
    return config


def hsnet_config(name: str, size: tuple[int, int], served: Served) -> dict[str, Any]:
    """The configuration of the model that clients call.

    It has one instance: a second one would be another process with a separate store, and would not
    know the sets of the first. It handles the requests of a batch concurrently.
    """
    limits = served.limits
    parameters = {
        "height": size[0],
        "width": size[1],
        "images": limits.images,
        "shots": limits.shots,
        "supports": limits.supports,
        "bytes_per_shot": _bytes_per_shot(served.graphs["match"]),
        "packing": json.dumps([dataclasses.asdict(p) for p in served.graphs["match"].packing]),
        "types": json.dumps(
            {
                graph: {spec.name: spec.dtype for spec in (*entry.inputs, *entry.outputs)}
                for graph, entry in served.graphs.items()
            }
        ),
        "store_megabytes": 4000,
        "device_megabytes": 1000,
        "idle_seconds": 3600,
        "most_megapixels": 50,
    }
    return {
        "name": name,
        "backend": "python",
        "max_batch_size": 16,
        "version_policy": _VERSIONS,
        "input": [
            {"name": n, "data_type": kind, "dims": dims, "optional": n != "action"}
            for n, (kind, dims) in INPUTS.items()
        ],
        "output": [
            {"name": n, "data_type": kind, "dims": dims} for n, (kind, dims) in OUTPUTS.items()
        ],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "dynamic_batching": {"max_queue_delay_microseconds": 1000, "default_queue_policy": _QUEUE},
        "parameters": {key: {"string_value": str(value)} for key, value in parameters.items()},
    }


def configs(prefix: str, size: tuple[int, int], served: Served) -> dict[str, dict[str, Any]]:
    """All four configurations, by model name; the one that clients call comes last."""
    named = {f"{prefix}_{g}": graph_config(f"{prefix}_{g}", g, served) for g in GRAPHS}
    return {**named, prefix: hsnet_config(prefix, size, served)}


def to_text(config: dict[str, Any]) -> str:
    """`config.pbtxt`, checked against Triton's schema.

    Raises:
        ExportError: Triton's schema knows no such field or value.
    """
    from google.protobuf import json_format, text_format

    try:
        message = json_format.ParseDict(config, _message())
    except json_format.ParseError as error:
        raise ExportError(
            f"Triton's schema refuses the configuration of {config['name']}",
            found=error,
            fix="upgrade tritonclient: python -m pip install --upgrade 'tritonclient[grpc]'",
        ) from error
    return str(text_format.MessageToString(message))


def fixed_part(text: str) -> str:
    """A `config.pbtxt` without the fields that operators may change.

    Raises:
        ExportError: the text is not a `config.pbtxt`.
    """
    from google.protobuf import text_format

    message = _message()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ExportError("a config.pbtxt cannot be read", found=error) from error
    for field in TUNABLE:
        message.ClearField(field)
    for key in _TUNABLE_PARAMETERS:
        message.parameters.pop(key, None)
    message.max_batch_size = min(message.max_batch_size, 1)
    return str(text_format.MessageToString(message))


def _message() -> Any:
    from tritonclient.grpc import model_config_pb2

    return model_config_pb2.ModelConfig()


def _tensor(spec: TensorSpec, most: int) -> dict[str, Any]:
    return {"name": spec.name, **_shape(spec, most, -1)}


def _shape(spec: TensorSpec, most: int, dynamic: int) -> dict[str, Any]:
    """Type and dimensions; the batch dimension is left out where Triton batches."""
    dims = [n if isinstance(n, int) else dynamic for n in spec.shape]
    return {"data_type": _TYPES[spec.dtype], "dims": dims[1:] if most else dims}


def _bytes_per_shot(match: GraphFile) -> int:
    """Bytes of an encoded shot at most: those of a query's features and of the contrast vectors."""
    total = 0
    for spec in match.inputs:
        if spec.name in (*FEATURES, *CONTRASTS):
            elements = 1
            for n in spec.shape[1:]:
                elements *= int(n)
            total += elements * (2 if spec.dtype == "float16" else 4)
    return total
