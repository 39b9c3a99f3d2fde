"""The correlation op of HSNet: defined once, for NumPy, ONNX Runtime and TensorRT."""
