"""A bundle in, masks out: what is shipped to the edge. Never imports torch, onnx or the exporter."""
