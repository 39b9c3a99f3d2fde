"""TensorRT engines: loading, memory, execution.

In: a bundle's engines, a CUDA driver. Out: the three graphs as a `Runner` (`runner`), each also as
a `DeviceGraph` for frames that stay on the GPU.
May import: `frames`, `matching`, `device`, `pictures`, `bundle`.
"""
