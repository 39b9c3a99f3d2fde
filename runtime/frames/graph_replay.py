"""Networks launched as CUDA graphs: as usual at first, then captured, then replayed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device.cuda_graphs import CudaGraphs, open_graphs
from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.frames.device_graph import DeviceGraph

_log = logging.getLogger("hsnet_trt.tensorrt")


class GraphReplay:
    """The captured graphs of one stream; the context must be current for every call.

    Attributes:
        graphs: captures and replays; None if networks are always launched directly.
    """

    def __init__(self, cuda: Cuda, stream: Any, *, wanted: bool) -> None:
        """Set up.

        Args:
            cuda: the driver.
            stream: the stream in which the networks run.
            wanted: false where the networks cannot be captured.
        """
        self._cuda, self._stream = cuda, stream
        self.graphs: CudaGraphs | None = open_graphs() if wanted else None
        self._captured: dict[str, tuple[object, Any]] = {}
        self._refused: set[str] = set()  # by key: could not be captured or replayed

    def run(
        self, key: str, version: object, work: Callable[[Callable[[DeviceGraph], None]], None]
    ) -> None:
        """Run networks, as a CUDA graph once one is captured.

        TensorRT needs one usual launch after a change of shapes before a capture. Networks whose
        graph fails are launched as usual from then on; other graphs are not affected.

        Args:
            key: which graph, "features" or "match".
            version: changes whenever the graph must be captured anew.
            work: launches the networks with the function that it is given.
        """
        if not self._replay(key, version, work):
            work(lambda engine: engine.launch(self._stream.handle))

    def close(self) -> None:
        """Destroy the graphs, also those that are no longer used; none may still run."""
        while self._captured:
            _, (_, graph) = self._captured.popitem()
            if graph is not None and self.graphs is not None:
                self.graphs.destroy(graph)

    def _replay(
        self, key: str, version: object, work: Callable[[Callable[[DeviceGraph], None]], None]
    ) -> bool:
        """Replay a graph, after capturing it if needed; False if nothing was launched."""
        if self.graphs is None or key in self._refused:
            return False
        known, graph = self._captured.get(key, (None, None))
        if known != version:
            if graph is not None:
                self._cuda.synchronise(self._stream)
                del self._captured[key]
                self.graphs.destroy(graph)
            self._captured[key] = (version, None)
            return False
        try:
            if graph is None:
                handle = self._stream.handle
                graph = self.graphs.capture(
                    lambda: work(lambda engine: engine.launch(handle, capturing=True)),
                    self._stream,
                )
                self._captured[key] = (version, graph)
            self.graphs.replay(graph, self._stream)
        except BackendError as error:
            _log.warning("%s goes without a CUDA graph: %s", key, error)
            self._refused.add(key)
            return False
        return True
