"""Runs a bundle's ONNX graphs on the CPU with ONNX Runtime: the default that works everywhere."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.manifest import GraphFile
from hsnet_trt.runtime.device.machine import (
    find_cpu,
    host_memory,
    multiplies_int8_exactly,
    usable_cores,
)
from hsnet_trt.runtime.matching.graphs import (
    FEATURES,
    GRAPHS,
    INPUTS,
    OUTPUTS,
    PACKED_INPUTS,
    Limits,
    Tensors,
)

# Estimated activations of one call. What is larger falls out of the processor's caches, and shots
# at 400 x 400 are faster one by one; small ones at 256 x 256 are not, and share calls.
MEMORY_BUDGET = 300_000_000
_MOST = 16
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


class OnnxRuntimeRunner:
    """The three graphs as ONNX Runtime sessions. `run` may be called from several threads."""

    backend = "onnxruntime"
    frames = None

    def __init__(self, bundle: Bundle, graphs: dict[str, GraphFile]) -> None:
        """Read, check and load the graphs.

        Args:
            bundle: where the graphs are.
            graphs: for each of features, support and match, the form that is to run.

        Raises:
            BundleError: a file was altered.
            BackendError: ONNX Runtime is not installed, or refuses a graph.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise BackendError(
                "ONNX Runtime cannot be loaded",
                found=error,
                fix="install it: python -m pip install onnxruntime",
            ) from error
        self.precision = graphs["match"].variant.precision
        self.device = (
            f"{find_cpu()}, {usable_cores()} cores (ONNX Runtime {onnxruntime.__version__})"
        )
        memory = host_memory()
        self.limits = cpu_limits(graphs, min(MEMORY_BUDGET, memory // 6) if memory else None)
        self.packing = graphs["match"].packing
        options = onnxruntime.SessionOptions()
        options.log_severity_level = (
            3  # errors; its warnings are for people who work on ONNX Runtime
        )
        # Else the threads of one session still wait, spinning, when those of the next begin: on two
        # cores a frame took 1.4 times as long.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if not multiplies_int8_exactly():
            options.add_session_config_entry("session.x64quantprecision", "1")
        threads = os.environ.get("OMP_NUM_THREADS", "")
        options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0  # 0: every core
        self._sessions: dict[str, Any] = {}
        for name in GRAPHS:
            content = bundle.read(graphs[name].file)
            try:
                session = onnxruntime.InferenceSession(
                    content, options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # its exceptions share no other base
                raise BackendError(
                    f"ONNX Runtime refuses the graph {graphs[name].file}",
                    found=str(error)[:500],
                    fix="upgrade onnxruntime, or choose another precision",
                ) from error
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
            ) from error
        return dict(zip(OUTPUTS[graph], outputs, strict=True))

    def close(self) -> None:
        """Free the sessions; harmless when repeated."""
        self._sessions.clear()


def cpu_limits(graphs: dict[str, GraphFile], budget: int | None = None) -> Limits:
    """How much one call may be given on a CPU, for its activations to stay within a budget.

    Args:
        graphs: features, support and match.
        budget: bytes; by default `MEMORY_BUDGET`.
    """
    budget = MEMORY_BUDGET if budget is None else budget

    def most(graph: str, queries: int, supports: int) -> int:
        """The largest n for which n times so many queries and supports fit in the budget."""
        growth = graphs[graph].activation_bytes
        fits = [
            n
            for n in range(1, _MOST + 1)
            if growth.at(max(1, n * queries), max(1, n * supports)) <= budget
        ]
        return max(fits, default=1)

    return Limits(
        images=most("features", 1, 0),
        shots=most("support", 0, 1),
        queries=1,  # a second query in a call gains nothing on a CPU
        supports=most("match", 0, 1),
    )


def _check_names(file: GraphFile, session: Any) -> None:
    graph = file.variant.graph
    inputs = (*FEATURES, *PACKED_INPUTS) if file.packing else INPUTS[graph]
    found = ({i.name for i in session.get_inputs()}, {o.name for o in session.get_outputs()})
    if found != (set(inputs), set(OUTPUTS[graph])):
        raise BackendError(
            f"{file.file} is not a graph of this version",
            expected=f"{', '.join(inputs)} -> {', '.join(OUTPUTS[graph])}",
            found=f"{', '.join(sorted(found[0]))} -> {', '.join(sorted(found[1]))}",
            fix="export the bundle again",
        )
