"""The graphs' models, by the name that exported Triton repositories import."""

from hsnet_trt.serving.triton_server.graph import TritonPythonModel

__all__ = ["TritonPythonModel"]
