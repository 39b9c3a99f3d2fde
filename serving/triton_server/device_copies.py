"""Copies of support sets in a GPU's memory, kept between requests."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device.driver import Cuda, open_cuda
from hsnet_trt.serving.triton_server.device_memory import CUDA, DeviceArray

_log = logging.getLogger("hsnet_trt")

Arrays: TypeAlias = "Mapping[str, npt.NDArray[Any]]"
Copies: TypeAlias = "tuple[dict[str, DeviceArray], ...]"


@dataclass(frozen=True)
class _Kept:
    """A set's copies, their bytes, and the finalizer that drops them with the set."""

    copies: Copies
    size: int
    end: weakref.finalize[Any, Any]


class DeviceCopies:
    """Copies of the most recently used sets, uploaded at first use. Thread-safe.

    A copy is dropped with its set, or when the limit is reached; its memory is freed once no
    request uses it any more.
    """

    def __init__(self, most_bytes: int, open_driver: Callable[[], Cuda] = open_cuda) -> None:
        """Start without copies.

        Args:
            most_bytes: bytes of all copies together; 0 for no copies.
            open_driver: opens the first GPU.
        """
        self._most, self._open = most_bytes, open_driver
        self._cuda: Cuda | None = None
        self._kept: OrderedDict[int, _Kept] = OrderedDict()  # the most recently used at the end
        self._taken = 0
        self._lock = threading.RLock()  # reentrant: a finalizer may run during an upload

    def of(self, owner: object, pieces: Sequence[Arrays], device: int) -> Copies | None:
        """A set's pieces in the GPU's memory; None if they cannot be copied there.

        Args:
            owner: the set, compared by identity; it must not change.
            pieces: its arrays, in the types that `match` takes.
            device: the GPU's number; only 0 is supported.
        """
        with self._lock:
            known = self._kept.get(id(owner))
            if known is not None:
                self._kept.move_to_end(id(owner))
                return known.copies
            if not self._most or device != 0:
                return None
            size = sum(array.nbytes for piece in pieces for array in piece.values())
            if size > self._most:
                return None
            while self._taken + size > self._most:
                self._drop(next(iter(self._kept)))
            try:
                copies = self._upload(pieces)
            except BackendError as error:
                self.give_up(error)
                return None
            end = weakref.finalize(owner, self._drop, id(owner))
            end.atexit = False
            self._kept[id(owner)] = _Kept(copies, size, end)
            self._taken += size
            return copies

    def give_up(self, error: BackendError) -> None:
        """Drop all copies and make no more."""
        _log.warning("support sets go to the GPU with every request: %s", str(error))
        with self._lock:
            self._most = 0
            while self._kept:
                self._drop(next(iter(self._kept)))

    def _drop(self, number: int) -> None:
        with self._lock:
            kept = self._kept.pop(number, None)
            if kept is not None:
                self._taken -= kept.size
                kept.end.detach()

    def _upload(self, pieces: Sequence[Arrays]) -> Copies:
        if self._cuda is None:
            self._cuda = self._open()
        cuda = self._cuda
        with cuda.current():
            stream = cuda.stream()
            try:
                return tuple(
                    {name: self._copy(cuda, array, stream) for name, array in piece.items()}
                    for piece in pieces
                )
            finally:
                cuda.synchronise(stream)
                cuda.destroy(stream)

    @staticmethod
    def _copy(cuda: Cuda, array: npt.NDArray[Any], stream: Any) -> DeviceArray:
        address = cuda.allocate(array.nbytes)

        def free() -> None:
            with suppress(BackendError), cuda.current():  # the GPU may have failed
                cuda.free(address)

        found = DeviceArray(address, array.shape, array.dtype, (CUDA, 0), free)
        cuda.upload(address, np.ascontiguousarray(array), stream)
        cuda.synchronise(stream)  # the source may be freed after this
        return found
