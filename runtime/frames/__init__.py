"""Whole frames on the GPU, from pixels to masks, with any network that runs there.

In: `features` and `match` as `DeviceGraph`s, the compiled kernels, a CUDA driver. Out: a
`GpuPipeline` (`frame_pipeline`) whose frames are queued in lanes.
May import: `matching`, `device`, `pictures`, `bundle`.
"""
