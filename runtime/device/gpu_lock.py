"""A lock for enqueuing work on one GPU, which also knows whether other threads use the driver.

A library that captures a CUDA graph in the driver's global mode, as ONNX Runtime does, fails if
another thread of the process allocates or waits meanwhile. All our driver calls are made with the
lock held or inside `waiting`. So a thread that holds the lock while it is `quiet` may capture.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class GpuLock:
    """A reentrant lock, and a count of threads that wait for the GPU without it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._left = threading.Condition(self._lock)
        self._waiting: list[int] = []  # threads

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def acquire(self, *, blocking: bool = True) -> bool:
        """Take the lock; returns whether it was taken."""
        return self._lock.acquire(blocking=blocking)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Enclose calls that wait for the GPU without the lock, so that others may enqueue."""
        me = threading.get_ident()
        with self._lock:
            self._waiting.append(me)
        try:
            yield
        finally:
            with self._lock:
                self._waiting.remove(me)
                self._left.notify_all()

    def wait_for_others(self) -> None:
        """Wait until no other thread is inside `waiting`; meanwhile, others may take the lock."""
        me = threading.get_ident()
        with self._lock:
            self._left.wait_for(lambda: all(thread == me for thread in self._waiting))

    @property
    def quiet(self) -> bool:
        """Whether no thread is inside `waiting`; the caller must hold the lock."""
        return not self._waiting
