"""A Triton model that runs one graph with ONNX Runtime in the Python backend.

For servers without Triton's own backends for TensorRT and ONNX Runtime. On a CPU, results and speed
are the same.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from hsnet_trt.errors import BackendError
from hsnet_trt.serving.triton_server.files import MODEL_FILES
from hsnet_trt.serving.triton_server.model import check_numpy


class TritonPythonModel:
    """What Triton's Python backend loads."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph.

        Raises:
            BackendError: ONNX Runtime is not installed in the server's Python, or its NumPy does
                not fit Triton's Python backend.
        """
        self._pb = importlib.import_module("triton_python_backend_utils")
        check_numpy(self._pb)
        try:
            import onnxruntime
        except ImportError as error:
            raise BackendError(
                "ONNX Runtime cannot be loaded in the server's Python",
                found=error,
                fix="python -m pip install onnxruntime, or export with --platforms onnxruntime",
            ) from error
        config = json.loads(args["model_config"])
        self._batches = config["max_batch_size"] > 0
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        path = Path(args["model_repository"], args["model_version"], MODEL_FILES["python"])
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only; its warnings address its own developers
        # Otherwise its threads still spin when those of the next model start.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run the graph: once for all requests if the model batches, else once per request."""
        if self._batches:
            return self._run(requests)
        return [response for request in requests for response in self._run([request])]

    def finalize(self) -> None:
        """Nothing to free."""

    def _run(self, requests: list[Any]) -> list[Any]:
        pb = self._pb
        feed, counts = {}, []
        for name in self._inputs:
            parts = [pb.get_input_tensor_by_name(r, name).as_numpy() for r in requests]
            counts = [len(part) for part in parts]
            feed[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        try:
            found = self._session.run(self._outputs, feed)
        except Exception as error:  # noqa: BLE001  its exceptions share no other base
            failure = pb.TritonError(f"ONNX Runtime failed: {str(error)[:500]}")
            return [pb.InferenceResponse([], failure) for _ in requests]
        ends = np.cumsum(counts) if self._batches else [len(found[0])]
        responses = []
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            tensors = [
                pb.Tensor(name, np.ascontiguousarray(array[start:end]))
                for name, array in zip(self._outputs, found, strict=True)
            ]
            responses.append(pb.InferenceResponse(tensors))
        return responses
