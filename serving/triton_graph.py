"""The graphs' models where exported Triton repositories look for them."""

from hsnet_trt.serving.triton_server.graph import TritonPythonModel

__all__ = ["TritonPythonModel"]
