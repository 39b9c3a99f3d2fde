"""The correlation op of HSNet: one definition, judged in NumPy, run by ONNX Runtime and TensorRT."""
