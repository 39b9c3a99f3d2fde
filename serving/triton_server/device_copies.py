"""Support sets of arrays, kept in a GPU's memory between requests."""

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
    """A set's copies, the bytes they take, and what drops them with the set."""

    copies: Copies
    size: int
    end: weakref.finalize[Any, Any]


class DeviceCopies:
    """Copies of the sets that were used last, uploaded when they are used first. Thread-safe.

    A copy goes with its set; and with the last request that has it, where the bound is reached.
    """

    def __init__(self, most_bytes: int, open_driver: Callable[[], Cuda] = open_cuda) -> None:
        """Copy nothing yet.

        Args:
            most_bytes: how much all copies may take; 0 for none.
            open_driver: opens the first GPU.
        """
        self._most, self._open = most_bytes, open_driver
        self._cuda: Cuda | None = None
        self._kept: OrderedDict[int, _Kept] = OrderedDict()  # the last used at the end
        self._taken = 0
        self._lock = threading.RLock()  # a set may end while another one is uploaded

    def of(self, owner: object, pieces: Sequence[Arrays], device: int) -> Copies | None:
        """A set's pieces in the GPU's memory; None where they cannot be there.

        Args:
            owner: the set, by identity; it never changes.
            pieces: its arrays, in the types in which they are passed.
            device: the GPU's number.
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
        """Make no more copies."""
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
            with suppress(BackendError), cuda.current():  # of a GPU that fell over
                cuda.free(address)

        found = DeviceArray(address, array.shape, array.dtype, (CUDA, 0), free)
        cuda.upload(address, np.ascontiguousarray(array), stream)
        cuda.synchronise(stream)  # before what it is copied from may go
        return found
