"""CUDA graphs: capture a fixed sequence of GPU work from a stream, and replay it in one launch.

pycuda has no graphs, so this uses cuda-bindings whichever library holds the context. Without
cuda-bindings, callers launch the work each time (CUDA driver API, "Graph Management").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device.driver import has
from hsnet_trt.runtime.device.driver_bindings import call_driver, load_bindings


def open_graphs() -> CudaGraphs | None:
    """A `CudaGraphs`, or None if cuda-bindings cannot be loaded."""
    if not has("cuda.bindings"):
        return None
    try:
        return CudaGraphs(load_bindings())
    except BackendError:
        return None


class CudaGraphs:
    """Captures and replays graphs; the context must be current for every call."""

    def __init__(self, bindings: Any) -> None:
        """Use `open_graphs`."""
        self._cuda = bindings

    def capture(self, work: Callable[[], None], stream: Any) -> Any:
        """Record what `work` enqueues in the stream, without running it.

        Returns:
            The executable graph, for `replay` and `destroy`.

        Raises:
            BackendError: something in it cannot be captured. The stream is usable again.
        """
        cuda, raw = self._cuda, self._cuda.CUstream(stream.handle)
        # Thread-local, so that other threads may allocate while this one captures.
        mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        call_driver(cuda, "cuStreamBeginCapture", raw, mode)
        try:
            work()
        except BaseException:
            self.abandon(stream.handle)
            raise
        graph = call_driver(cuda, "cuStreamEndCapture", raw)
        try:
            return call_driver(cuda, "cuGraphInstantiate", graph, 0)
        finally:
            cuda.cuGraphDestroy(graph)

    def replay(self, graph: Any, stream: Any) -> None:
        """Enqueue a captured graph in the stream."""
        call_driver(self._cuda, "cuGraphLaunch", graph, self._cuda.CUstream(stream.handle))

    def destroy(self, graph: Any) -> None:
        """Free a captured graph."""
        call_driver(self._cuda, "cuGraphExecDestroy", graph)

    def abandon(self, stream: int) -> None:
        """End a failed capture, whichever library began it; no-op if there is none.

        Args:
            stream: handle of the stream.
        """
        status, graph = self._cuda.cuStreamEndCapture(self._cuda.CUstream(stream))
        if not int(status):
            self._cuda.cuGraphDestroy(graph)
