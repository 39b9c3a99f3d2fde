"""Whole frames on the GPU, pixels to masks, around whatever runs the network there.

In: `features` and `match` as `DeviceGraph`s, the compiled kernels, a CUDA driver. Out: a
`GpuPipeline` (`frame_pipeline`) whose frames take turns in lanes.
May import: `matching`, `device`, `pictures`, `bundle`.
"""
