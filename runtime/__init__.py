"""The runtime that ships to the edge, from a bundle to masks; imports no torch, onnx or export."""
