"""Runs a bundle's ONNX graphs with ONNX Runtime, on any CPU or through CUDA."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import weakref
from collections.abc import Mapping
from contextlib import nullcontext
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
from hsnet_trt.runtime.frames.frame_pipeline import GpuFrames
from hsnet_trt.runtime.matching.graphs import (
    FEATURES,
    GRAPHS,
    PACKED_INPUTS,
    Tensors,
    names_of,
    takes_columns,
)
from hsnet_trt.runtime.matching.packing import CONTRASTS
from hsnet_trt.runtime.ort.cuda import (
    INSTALL,
    OPTIONS,
    PROVIDER,
    cuda_failure,
    provider_options,
    remedy,
    why_on_the_cpu,
)
from hsnet_trt.runtime.ort.device_session import TYPES
from hsnet_trt.runtime.ort.frames import FRAME_GRAPHS, FrameParts, open_parts
from hsnet_trt.runtime.ort.limits import MEMORY_BUDGET, cpu_limits, gpu_limits, threads

_log = logging.getLogger("hsnet_trt")


def load_onnxruntime() -> Any:
    """Import `onnxruntime`.

    Raises:
        BackendError: ONNX Runtime is not installed, or broken.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            "ONNX Runtime cannot be loaded",
            found=error,
            fix="install it: python -m pip install onnxruntime; for NVIDIA cards in its place: "
            f"{INSTALL}",
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        # Two packages share the folder; uninstalling one leaves it nearly empty.
        raise BackendError(
            "ONNX Runtime cannot be loaded",
            found="its folder without its files",
            fix="install it again: python -m pip install --force-reinstall onnxruntime",
        )
    return onnxruntime


class OnnxRuntimeRunner:
    """The three graphs as ONNX Runtime sessions. `run` may be called from several threads.

    `run` takes and returns arrays in host memory, on a GPU too. Frames stay on the GPU if the
    requirements in `ort.frames` are met. On a CPU, a process that was forked opens sessions of its
    own at its first run, since those of its parent have lost their threads.
    """

    def __init__(
        self,
        bundle: Bundle,
        graphs: dict[str, GraphFile],
        gpu: Gpu | None = None,
        provider: Mapping[str, str] = OPTIONS,
    ) -> None:
        """Read, check and load the graphs.

        Args:
            bundle: holds the graphs.
            graphs: the form to run of each of features, support and match.
            gpu: the GPU to run on, from `check_cuda`; None for the CPU.
            provider: options of the CUDA provider. CUDA graphs are used where they can be, unless
                `enable_cuda_graph` is "0" here.

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
        self.contrast = bool(bundle.manifest.model.contrast)
        version = f"ONNX Runtime {onnxruntime.__version__}"
        if gpu is None:
            self.device = f"{find_cpu()}, {usable_cores()} cores ({version})"
            memory = host_memory()
            self.limits = cpu_limits(graphs, min(MEMORY_BUDGET, memory // 6) if memory else None)
        else:
            self.device = f"{gpu.name} ({version}, CUDA)"
            self.limits = gpu_limits(graphs, gpu)
        self._options, self._run_options = _session_options(onnxruntime), onnxruntime.RunOptions()
        self._sessions: dict[str, Any] = {}
        self._parts = None if gpu is None else open_parts(bundle, gpu.compute_capability)
        self._bundle, self._graphs = bundle, graphs
        self._process, self._opening = os.getpid(), threading.Lock()
        # Runs at interpreter exit too, before the libraries are unloaded.
        self._close = weakref.finalize(self, _free, self._sessions, self._parts, self._process)
        options = None if gpu is None else provider_options(gpu, provider)
        try:
            self._open(onnxruntime, options)
        except BaseException:
            self.close()
            raise

    def _open(self, onnxruntime: Any, provider: dict[str, str] | None) -> None:
        bundle, graphs = self._bundle, self._graphs
        parts, capturing = self._parts, dict.fromkeys(FRAME_GRAPHS, False)
        if parts is not None and provider is not None:
            provider = {**provider, "user_compute_stream": str(parts.stream)}
        for name in GRAPHS:
            content, file = bundle.read(graphs[name].file), graphs[name].file
            session = None
            if parts is not None and provider is not None and parts.graphs and name in FRAME_GRAPHS:
                try:
                    more = {"enable_cuda_graph": "1", **provider}
                    session = _open_session(onnxruntime, content, file, self._options, more)
                    capturing[name] = more["enable_cuda_graph"] == "1"
                except BackendError as error:
                    _log.info("%s goes without CUDA graphs: %s", name, error.found)
            if session is None:
                session = _open_session(onnxruntime, content, file, self._options, provider)
            _check_names(graphs[name], session, contrast=self.contrast)
            self._sessions[name] = session
        if parts is not None:
            self._run_options.add_run_config_entry("gpu_graph_id", "-1")
            parts.attach(bundle, self._sessions, onnxruntime.RunOptions, self.limits, capturing)

    def _open_after_fork(self) -> None:
        """Replace the parent's sessions, in a process that was forked."""
        with self._opening:
            process = os.getpid()
            if process != self._process:
                self._close()
                self._close = weakref.finalize(self, _free, self._sessions, None, process)
                self._open(load_onnxruntime(), None)
                self._process = process

    @property
    def frames(self) -> GpuFrames | None:
        """Frames on the GPU; None on a CPU, and if a requirement is missing."""
        return None if self._parts is None else self._parts.frames

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run `graph` once; see `matching.runner.Runner`.

        Raises:
            BackendError: ONNX Runtime failed, for example because memory ran out.
            BundleError: this process was forked, and the bundle has changed since.
        """
        if self.backend == "onnxruntime" and os.getpid() != self._process:
            self._open_after_fork()
        session = self._sessions[graph]
        _, names = names_of(graph, contrast=self.contrast)
        feed = {
            spec.name: np.ascontiguousarray(
                inputs[spec.name], dtype=TYPES.get(spec.type, np.float32)
            )
            for spec in session.get_inputs()
        }
        try:
            with nullcontext() if self._parts is None else self._parts.lock:
                outputs = session.run(list(names), feed, self._run_options)
        except Exception as error:  # its exceptions share no other base
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feed.items())
            raise BackendError(
                f"ONNX Runtime failed in {graph}",
                expected=f"an answer to {shapes}",
                found=str(error)[:500],
                fix=None if self.backend == "onnxruntime" else remedy(str(error)),
            ) from error
        return dict(zip(names, outputs, strict=True))

    def close(self) -> None:
        """Free the sessions; harmless when repeated."""
        self._close()


def _free(sessions: dict[str, Any], parts: FrameParts | None, process: int) -> None:
    """Free the sessions that `process` opened.

    A session waits for its threads when it is freed. A forked process has none of them, and would
    wait for ever, at the latest when it exits: there the sessions are given up, not freed.
    """
    if os.getpid() != process:
        for session in sessions.values():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
    if parts is not None:
        parts.free(sessions)
    sessions.clear()


def _session_options(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; its warnings address its own developers
    # Otherwise the threads of one session still spin when those of the next one start: on two cores
    # a frame took 1.4 times as long.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if not multiplies_int8_exactly():
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.intra_op_num_threads = threads()
    return options


def _open_session(
    onnxruntime: Any, content: bytes, file: str, options: Any, provider: dict[str, str] | None
) -> Any:
    """A session on the GPU with those provider options, or on the CPU if `provider` is None.

    Raises:
        BackendError: ONNX Runtime refuses the graph, or would not run it on the GPU.
    """
    # ONNX Runtime adds the CPU provider by itself, for operations that the CUDA provider lacks.
    providers = ["CPUExecutionProvider"] if provider is None else [(PROVIDER, provider)]
    try:
        # Without this it prints a GPU error, at loading or while running, and continues on the CPU.
        # Versions before 1.23 ignore the argument, and need the method.
        session = onnxruntime.InferenceSession(
            content, options, providers=providers, enable_fallback=0
        )
        session.disable_fallback()
    except Exception as error:  # its exceptions share no other base
        cuda = None if provider is None else cuda_failure(str(error))
        raise BackendError(
            f"ONNX Runtime refuses the graph {file}"
            if cuda is None
            else "ONNX Runtime cannot use the GPU",
            found=cuda or str(error)[:500],
            fix=(None if provider is None else remedy(str(error)))
            or "upgrade ONNX Runtime, or choose another precision",
        ) from error
    if provider is not None and PROVIDER not in session.get_providers():
        why = why_on_the_cpu(onnxruntime)
        raise BackendError(
            "ONNX Runtime would run on the CPU: its CUDA provider could not be loaded",
            expected=f"{PROVIDER} in the session",
            found=why,
            fix=remedy(why) or "see `hsnet-trt doctor`",
        )
    return session


def _check_names(file: GraphFile, session: Any, *, contrast: bool) -> None:
    columns = takes_columns(file)
    inputs, outputs = names_of(file.variant.graph, contrast=contrast, columns=columns)
    if file.packing:
        inputs = (*FEATURES, *PACKED_INPUTS, *(CONTRASTS if contrast else ()))
    found = ({i.name for i in session.get_inputs()}, {o.name for o in session.get_outputs()})
    if found != (set(inputs), set(outputs)):
        raise BackendError(
            f"{file.file} is not a graph of this version",
            expected=f"{', '.join(inputs)} -> {', '.join(outputs)}",
            found=f"{', '.join(sorted(found[0]))} -> {', '.join(sorted(found[1]))}",
            fix="export the bundle again",
        )
