"""What the correlation's kernels may take on a GPU, predicted from what their blocks do.

In: sizes and masks, the times of earlier kernels. Out: milliseconds of a launch, with no GPU.
May import: `gpu_check`.
"""
