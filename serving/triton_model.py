"""The model `hsnet` where exported Triton repositories look for it."""

from hsnet_trt.serving.triton_server.model import TritonPythonModel

__all__ = ["TritonPythonModel"]
