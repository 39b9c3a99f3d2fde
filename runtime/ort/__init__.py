"""ONNX Runtime: on any CPU, and on NVIDIA cards, where whole frames may stay on the GPU.

In: a bundle's ONNX graphs. Out: the three graphs as a `Runner` (`runner`), with what its CUDA
provider needs (`cuda`), and how much one call may be given (`limits`).
May import: `frames`, `matching`, `device`, `bundle`.
"""
