"""Quantise an FP32 graph with explicit Q/DQ pairs, in the form that all NVIDIA parsers accept.

ONNX Runtime's quantiser is given our ranges and our placement: INT8 weights per output channel and
activations per tensor, both symmetric with zero point 0; scales in FP32; biases untouched.

ONNX Runtime on a CPU needs another form. Its integer convolution takes INT32 biases and returns 8
bits, so results get pairs too. Activations are UINT8; those that are never negative have zero point
0, so that the ReLU is fused into the convolution. Without both, a float convolution would run
between two conversions. Products of two activations become integer operators
(`integer_products`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

import numpy as np
import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import TensorData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from hsnet_trt.calibration.integer_products import in_integers
from hsnet_trt.calibration.placement import Layer

_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,  # TensorRT's parsers refuse INT32 biases
    "AddQDQPairToWeight": False,  # store weights as INT8 with only a DequantizeLinear
    "OpTypesToExcludeOutputQuantization": ["Conv", "MatMul"],
    "ForceQuantizeNoInputCheck": False,
}
_FOR_CPU = {"ActivationSymmetric": False, "QuantizeBias": True}


def quantize(
    model: onnx.ModelProto,
    layers: Iterable[Layer],
    thresholds: Mapping[str, float],
    unsigned: AbstractSet[str] | None = None,
) -> onnx.ModelProto:
    """Return a copy of `model` in which `layers` are INT8.

    Args:
        model: the FP32 graph.
        layers: all or some of those of `placement.place`.
        thresholds: for each source tensor, the |x| that 127 stands for.
        unsigned: for the CPU's form, the sources that are never negative; None for TensorRT's form.

    Returns:
        a graph with the same inputs and outputs; the same arguments give the same bytes.
    """
    layers = list(layers)
    products = [layer for layer in layers if unsigned is not None and layer.op == "MatMul"]
    paired = [layer for layer in layers if layer not in products]
    result = _with_pairs(model, paired, thresholds, unsigned) if paired else _copy(model)
    in_integers(result, products, thresholds)
    onnx.checker.check_model(result, full_check=True)
    return result


def _with_pairs(
    model: onnx.ModelProto,
    layers: list[Layer],
    thresholds: Mapping[str, float],
    unsigned: AbstractSet[str] | None,
) -> onnx.ModelProto:
    for_cpu = unsigned is not None
    pairs = dict(pair for layer in layers for pair in layer.pairs)
    if for_cpu:
        pairs |= {result: result for layer in layers for result in layer.results}
    ranges = {
        tensor: _range(thresholds[source], source in (unsigned or ()))
        for tensor, source in pairs.items()
    }
    # It warns of operators whose types it cannot infer, and of steps that do not apply here.
    logging.getLogger().addFilter(_no_warnings)
    try:
        quantizer = QDQQuantizer(
            _copy(model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8 if for_cpu else QuantType.QInt8,
            tensors_range=ranges,
            nodes_to_quantize=[node for layer in layers for node in layer.nodes],
            nodes_to_exclude=[],
            op_types_to_quantize=["Conv", "MatMul"],
            extra_options=_OPTIONS | (_FOR_CPU if for_cpu else {}),
        )
        for tensor in ranges:  # includes skip inputs, which no quantised node reads
            quantizer.quantize_activation_tensor(tensor)
        result: onnx.ModelProto = quantizer.quantize_model()
        quantizer.model.topological_sort()
    finally:
        logging.getLogger().removeFilter(_no_warnings)
    _restore(result, model)
    return result


def _range(threshold: float, unsigned: bool) -> TensorData:
    bound = np.float32(threshold)
    return TensorData(lowest=np.float32(0) if unsigned else -bound, highest=bound)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    return twin


def _restore(result: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """Restore the fields that the quantiser changes, apart from the nodes."""
    result.ir_version = model.ir_version
    result.producer_name, result.producer_version = model.producer_name, model.producer_version
    del result.metadata_props[:]
    result.metadata_props.extend(model.metadata_props)
    del result.graph.value_info[:]


def _no_warnings(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING
