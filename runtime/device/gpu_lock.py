"""A lock around the enqueuing of work on one GPU, which knows who else talks to the driver.

A library that captures a CUDA graph in the driver's global mode, as ONNX Runtime does, fails if
another thread of the process allocates or waits meanwhile. All our calls to the driver are made
with the lock held or inside `waiting`; so a thread that holds it and finds it `quiet` may capture.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class GpuLock:
    """A reentrant lock, and a count of those who wait for the GPU without it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._waiting = 0

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def acquire(self, *, blocking: bool = True) -> bool:
        """Take the lock; whether it was taken."""
        return self._lock.acquire(blocking=blocking)

    def release(self) -> None:
        """Give it back."""
        self._lock.release()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around calls that wait for the GPU and let others enqueue meanwhile."""
        with self._lock:
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1

    @property
    def quiet(self) -> bool:
        """Whether nobody waits for the GPU; the caller holds the lock."""
        return not self._waiting
