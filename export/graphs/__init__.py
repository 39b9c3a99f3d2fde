"""From the PyTorch model to the three ONNX graphs, in each lowering, compared with PyTorch.

In: an `HSNet`. Out: `features`, `support` and `match` for one size, golden inputs and outputs, and
how far they lie from PyTorch. May import: `export.precision`.
"""
