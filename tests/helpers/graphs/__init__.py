"""ONNX graphs of a few nodes, and rows as graphs take them."""
