"""The client for a Triton server, by its public name."""

from hsnet_trt.serving.triton_server.client import SegmentationClient, Supports

__all__ = ["SegmentationClient", "Supports"]
