"""A bundle in, masks out: what ships to the edge. Never imports torch, onnx or the exporter."""
