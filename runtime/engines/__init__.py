"""TensorRT engines: loaded, bound to memory, and run on frames that never leave the GPU.

In: a bundle's engines and compiled kernels, a CUDA driver. Out: the three graphs as a `Runner`
(`runner`), and whole frames, pixels to masks, in one pass on the GPU (`frame_pipeline`).
May import: `matching`, `device`, `pictures`, `bundle`.
"""
