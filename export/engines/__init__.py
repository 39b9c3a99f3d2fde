"""From ONNX graphs to TensorRT engines: targets, profiles, and the builder in a child process.

In: a bundle's graphs, a target. Out: engine files and records of how they were built. Needs
TensorRT or TensorRT for RTX; neither PyTorch nor onnx. May import: no other room.
"""
