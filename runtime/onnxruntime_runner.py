"""Runs a bundle's ONNX graphs with ONNX Runtime: on the CPU, which works everywhere, or by CUDA."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.manifest import GraphFile
from hsnet_trt.runtime.device.machine import (
    Gpu,
    find_cpu,
    host_memory,
    multiplies_int8_exactly,
    usable_cores,
)
from hsnet_trt.runtime.matching.graphs import (
    COLUMN_INPUTS,
    FEATURES,
    GRAPHS,
    INPUTS,
    OUTPUTS,
    PACKED_INPUTS,
    Tensors,
    takes_columns,
)
from hsnet_trt.runtime.onnxruntime_cuda import (
    PROVIDER,
    cuda_failure,
    provider_options,
    remedy,
    why_on_the_cpu,
)
from hsnet_trt.runtime.onnxruntime_limits import MEMORY_BUDGET, cpu_limits, gpu_limits

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


def load_onnxruntime() -> Any:
    """The module.

    Raises:
        BackendError: ONNX Runtime is not installed, or broken.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            "ONNX Runtime cannot be loaded",
            found=error,
            fix="install it: python -m pip install onnxruntime",
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        # A folder is left where one of two packages that share it was removed.
        raise BackendError(
            "ONNX Runtime cannot be loaded",
            found="its folder without its files",
            fix="install it again: python -m pip install --force-reinstall onnxruntime",
        )
    return onnxruntime


class OnnxRuntimeRunner:
    """The three graphs as ONNX Runtime sessions. `run` may be called from several threads.

    Arrays of the CPU's memory go in and come out on a GPU, too: a call copies its inputs there and
    its outputs back, the features of a query between `features` and `match` included, since a
    `Runner` takes and gives NumPy's arrays, which are cut into chunks on the way.
    """

    frames = None

    def __init__(
        self, bundle: Bundle, graphs: dict[str, GraphFile], gpu: Gpu | None = None
    ) -> None:
        """Read, check and load the graphs.

        Args:
            bundle: where the graphs are.
            graphs: for each of features, support and match, the form that is to run.
            gpu: the GPU that is to run them, from `check_cuda`; None for the CPU.

        Raises:
            BundleError: a file was altered.
            BackendError: ONNX Runtime is not installed, refuses a graph, or would run it on the
                CPU instead of the GPU.
        """
        onnxruntime = load_onnxruntime()
        self.backend = "onnxruntime" if gpu is None else "onnxruntime_cuda"
        self.precision = graphs["match"].variant.precision
        self.packing = graphs["match"].packing
        self.columns = takes_columns(graphs["match"])
        version = f"ONNX Runtime {onnxruntime.__version__}"
        if gpu is None:
            self.device = f"{find_cpu()}, {usable_cores()} cores ({version})"
            memory = host_memory()
            self.limits = cpu_limits(graphs, min(MEMORY_BUDGET, memory // 6) if memory else None)
        else:
            self.device = f"{gpu.name} ({version}, CUDA)"
            self.limits = gpu_limits(graphs, gpu)
        options = _session_options(onnxruntime)
        self._sessions: dict[str, Any] = {}
        for name in GRAPHS:
            content = bundle.read(graphs[name].file)
            session = _open_session(onnxruntime, content, graphs[name].file, options, gpu)
            _check_names(graphs[name], session)
            self._sessions[name] = session

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run `graph` once; see `network.Runner`.

        Raises:
            BackendError: ONNX Runtime failed, for want of memory for instance.
        """
        session = self._sessions[graph]
        feed = {
            spec.name: np.ascontiguousarray(
                inputs[spec.name], dtype=_TYPES.get(spec.type, np.float32)
            )
            for spec in session.get_inputs()
        }
        try:
            outputs = session.run(list(OUTPUTS[graph]), feed)
        except Exception as error:  # its exceptions share no other base
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feed.items())
            raise BackendError(
                f"ONNX Runtime failed in {graph}",
                expected=f"an answer to {shapes}",
                found=str(error)[:500],
                fix=None if self.backend == "onnxruntime" else remedy(str(error)),
            ) from error
        return dict(zip(OUTPUTS[graph], outputs, strict=True))

    def close(self) -> None:
        """Free the sessions; harmless when repeated."""
        self._sessions.clear()


def _session_options(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; its warnings are for people who work on ONNX Runtime
    # Else the threads of one session still wait, spinning, when those of the next begin: on two
    # cores a frame took 1.4 times as long.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if not multiplies_int8_exactly():
        options.add_session_config_entry("session.x64quantprecision", "1")
    threads = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0  # 0: every core
    return options


def _open_session(
    onnxruntime: Any, content: bytes, file: str, options: Any, gpu: Gpu | None
) -> Any:
    """A session on the GPU, or on the CPU if there is none.

    Raises:
        BackendError: it refuses the graph, or is not on the GPU.
    """
    # Operations that the CUDA provider does not have run on the CPU's, which comes along unasked.
    providers = ["CPUExecutionProvider"] if gpu is None else [(PROVIDER, provider_options(gpu))]
    try:
        # Else it prints an error of the GPU, at loading or while running, and goes on with the CPU.
        # Versions before 1.23 do not know the argument, and have the method.
        session = onnxruntime.InferenceSession(
            content, options, providers=providers, enable_fallback=0
        )
        session.disable_fallback()
    except Exception as error:  # its exceptions share no other base
        cuda = None if gpu is None else cuda_failure(str(error))
        raise BackendError(
            f"ONNX Runtime refuses the graph {file}"
            if cuda is None
            else "ONNX Runtime cannot use the GPU",
            found=cuda or str(error)[:500],
            fix=(None if gpu is None else remedy(str(error)))
            or "upgrade ONNX Runtime, or choose another precision",
        ) from error
    if gpu is not None and PROVIDER not in session.get_providers():
        why = why_on_the_cpu(onnxruntime)
        raise BackendError(
            "ONNX Runtime would run on the CPU: its CUDA provider could not be loaded",
            expected=f"{PROVIDER} in the session",
            found=why,
            fix=remedy(why) or "see `hsnet-trt doctor`",
        )
    return session


def _check_names(file: GraphFile, session: Any) -> None:
    graph = file.variant.graph
    inputs = INPUTS[graph]
    if file.packing or takes_columns(file):
        inputs = (*FEATURES, *(PACKED_INPUTS if file.packing else COLUMN_INPUTS))
    found = ({i.name for i in session.get_inputs()}, {o.name for o in session.get_outputs()})
    if found != (set(inputs), set(OUTPUTS[graph])):
        raise BackendError(
            f"{file.file} is not a graph of this version",
            expected=f"{', '.join(inputs)} -> {', '.join(OUTPUTS[graph])}",
            found=f"{', '.join(sorted(found[0]))} -> {', '.join(sorted(found[1]))}",
            fix="export the bundle again",
        )
