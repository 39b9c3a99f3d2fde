"""Libraries of machines that are not there: CUDA, TensorRT, ONNX Runtime on a GPU, Triton."""
