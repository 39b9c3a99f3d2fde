"""The model `hsnet`, by the name that exported Triton repositories import."""

from hsnet_trt.serving.triton_server.model import TritonPythonModel

__all__ = ["TritonPythonModel"]
