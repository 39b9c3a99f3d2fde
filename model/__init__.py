"""HSNet in PyTorch: what the network means, written to be read; `export` lowers it to be fast."""

from hsnet_trt.model.checkpoint import load_checkpoint, save_checkpoint
from hsnet_trt.model.hsnet import HSNet

__all__ = ["HSNet", "load_checkpoint", "save_checkpoint"]
