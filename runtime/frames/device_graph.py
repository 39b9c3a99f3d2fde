"""The interface of a network on the GPU: shapes, addresses, and launches in a stream.

Implemented by `engines.engine.Engine` (TensorRT) and `ort.device_session.DeviceSession`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np


class DeviceGraph(Protocol):
    """One of the graphs, with one set of shapes and addresses at a time. Its owner locks it."""

    @property
    def types(self) -> Mapping[str, np.dtype[Any]]:
        """NumPy type of each tensor."""
        ...

    @property
    def least(self) -> Mapping[str, tuple[int, ...]]:
        """The least shape of each input."""
        ...

    @property
    def most(self) -> Mapping[str, tuple[int, ...]]:
        """The largest shape of each tensor."""
        ...

    @property
    def shaped(self) -> int:
        """Number of changes of the input shapes."""
        ...

    @property
    def capturable(self) -> bool:
        """Whether callers may capture `launch` in a CUDA graph; False if it makes its own."""
        ...

    def bind(self, name: str, address: int) -> None:
        """Bind a tensor to its device memory; no-op if the address is unchanged."""
        ...

    def shape(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Set the input shapes; no-op if unchanged. Raises BackendError: one cannot be taken."""
        ...

    def output_shape(self, name: str) -> tuple[int, ...]:
        """Shape of an output for the current input shapes."""
        ...

    def launch(self, stream: int, *, capturing: bool = False) -> None:
        """Queue the work in a stream.

        Args:
            stream: handle of the CUDA stream.
            capturing: whether that stream is being captured, so that nothing runs yet and a
                failed launch cannot be tried again.

        Raises:
            BackendError: it failed.
        """
        ...
