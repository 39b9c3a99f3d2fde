"""NVIDIA Model Optimizer as the quantiser, if installed, with our layers and ranges.

Tried with nvidia-modelopt 0.47: activations get the same scales as from ONNX Runtime's quantiser.
Weights stay FP32 with a Q/DQ pair of their own, which TensorRT folds at build time, so the graphs
are four times as large. It writes opset 19.
"""

from __future__ import annotations

import importlib
import struct
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx

from hsnet_trt.calibration.placement import Layer
from hsnet_trt.errors import InputError

_HEADER = "TRT-10000-MinMaxCalibration\n"  # of a TensorRT calibration cache, the format it reads


def check_modelopt() -> None:
    """Raise InputError if Model Optimizer cannot be imported."""
    try:
        importlib.import_module("modelopt.onnx.quantization")
    except ImportError as error:
        raise InputError(
            "NVIDIA Model Optimizer cannot be imported",
            expected="the package nvidia-modelopt with its ONNX part",
            found=error,
            fix="pip install 'nvidia-modelopt[onnx]' (an environment of its own is best: it brings "
            "onnxruntime-gpu), or leave out --quantizer modelopt",
        ) from error


def quantize_with_modelopt(
    model: onnx.ModelProto, layers: Iterable[Layer], thresholds: Mapping[str, float]
) -> onnx.ModelProto:
    """Like `quantize.quantize` (TensorRT's form), by Model Optimizer.

    Raises:
        InputError: it is not installed, or its Q/DQ pairs are not the requested ones.
    """
    check_modelopt()
    quantizer = importlib.import_module("modelopt.onnx.quantization")
    layers = list(layers)
    steps = {tensor: thresholds[source] / 127 for layer in layers for tensor, source in layer.pairs}
    with tempfile.TemporaryDirectory(prefix="hsnet-trt-") as folder:
        source, cache, result = (Path(folder, name) for name in ("in.onnx", "cache", "out.onnx"))
        source.write_bytes(model.SerializeToString())  # a copy, because it overwrites its input
        lines = [f"{tensor}: {struct.pack('>f', step).hex()}\n" for tensor, step in steps.items()]
        cache.write_text(_HEADER + "".join(lines), encoding="utf-8")
        quantizer.quantize(
            str(source),
            quantize_mode="int8",
            calibration_cache_path=str(cache),
            calibration_eps=["cpu"],
            nodes_to_quantize=[node for layer in layers for node in layer.nodes],
            high_precision_dtype="fp32",
            output_path=str(result),
            log_level="ERROR",
        )
        quantized = onnx.load_model_from_string(result.read_bytes())
    _check(quantized, steps)
    quantized.ir_version = model.ir_version
    del quantized.graph.value_info[:]
    return quantized


def _check(quantized: onnx.ModelProto, steps: Mapping[str, float]) -> None:
    """Check that the pairs are where they should be, with the right scales."""
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in quantized.graph.initializer}
    found = {
        node.input[0]: float(constants[node.input[1]])
        for node in quantized.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in constants
    }
    wrong = [
        tensor
        for tensor in {*found, *steps}
        if abs(found.get(tensor, 0.0) - steps.get(tensor, 0.0)) > 1e-5 * steps.get(tensor, 0.0)
    ]
    if wrong:
        raise InputError(
            "Model Optimizer did not put its Q/DQ pairs where it was asked to",
            expected=f"{len(steps)} pairs with the ranges of the calibration",
            found=f"{len(found)} pairs; others at {', '.join(sorted(wrong)[:5])}",
            fix="leave out --quantizer modelopt, or use nvidia-modelopt 0.47",
        )
