"""HSNet in PyTorch, written for clarity; `export` rewrites it for speed."""

from hsnet_trt.model.checkpoint import load_checkpoint, save_checkpoint
from hsnet_trt.model.hsnet import HSNet

__all__ = ["HSNet", "load_checkpoint", "save_checkpoint"]
