"""Masks from a box or a scribble, under their public name."""

from hsnet_trt.data.labels.grabcut import mask_from_box, mask_from_scribble

__all__ = ["mask_from_box", "mask_from_scribble"]
