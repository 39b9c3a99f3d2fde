"""A store of values by id, with a memory limit; values unused for long are dropped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from hsnet_trt.errors import HSNetError, InputError

Value = TypeVar("Value")
Value_contra = TypeVar("Value_contra", contravariant=True)


class Put(Protocol[Value_contra]):
    """Stores a value in the room that was reserved for it."""

    def __call__(self, key: str, value: Value_contra, taken: int | None = None) -> None:
        """Store the value; it counts as `taken` bytes, or as the room if that is less or None."""
        ...


class UnknownSetError(InputError):
    """No value of that id: never registered, forgotten, expired, or the server restarted."""


class StoreFullError(HSNetError):
    """There is no room for another value."""


@dataclass
class _Entry(Generic[Value]):
    value: Value
    size: int  # bytes
    used: float  # seconds, by the store's clock


class SupportStore(Generic[Value]):
    """Keeps values by id. Safe to use from several threads.

    A full store refuses new values; it drops none to make room.
    """

    def __init__(
        self,
        most_bytes: int,
        idle_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        what: str = "support set",
        enlarge: str = "raise store_megabytes in config.pbtxt",
    ) -> None:
        """Make an empty store.

        Args:
            most_bytes: bytes of all values together, reserved room included.
            idle_seconds: values unused for longer are dropped.
            clock: a monotonic clock, in seconds.
            what: names a value in errors.
            enlarge: in errors, the instruction to raise `most_bytes`.
        """
        self._what, self._enlarge = what, enlarge
        self.most_bytes = most_bytes
        self.idle_seconds = idle_seconds
        self._clock = clock
        self._entries: dict[str, _Entry[Value]] = {}
        self._reserved = 0
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """Bytes of all values, reserved room included."""
        with self._lock:
            self._expire()
            return self._used()

    def __len__(self) -> int:
        with self._lock:
            self._expire()
            return len(self._entries)

    def __contains__(self, key: str) -> bool:
        with self._lock:
            self._expire()
            return key in self._entries

    def get(self, key: str) -> Value:
        """The value of that id, which counts as used now.

        Raises:
            UnknownSetError: there is none.
        """
        with self._lock:
            self._expire()
            entry = self._entries.get(key)
            if entry is None:
                raise UnknownSetError(
                    f"there is no {self._what} {key!r} here",
                    expected="the id that registering returned",
                    found="an id that was never registered, was forgotten, was not used for "
                    f"{self.idle_seconds:g} s, or is of before the server's last start",
                    fix=f"send the {self._what} again",
                )
            entry.used = self._clock()
            return entry.value

    def forget(self, key: str) -> bool:
        """Drop a value; returns whether it existed."""
        with self._lock:
            self._expire()
            return self._entries.pop(key, None) is not None

    @contextmanager
    def room(self, size: int) -> Iterator[Put[Value]]:
        """Reserve room while a value is computed.

        Args:
            size: bytes.

        Yields:
            The call that stores the value. Without that call, the room is released.

        Raises:
            StoreFullError: that much is not free.
        """
        with self._lock:
            self._expire()
            free = self.most_bytes - self._used()
            if size > free:
                raise StoreFullError(
                    f"the server's store of {self._what}s is full",
                    expected=f"{_mb(size)} free for this one",
                    found=f"{_mb(free)} of {_mb(self.most_bytes)} free, "
                    f"{len(self._entries)} {self._what}s kept",
                    fix="forget what is done with, wait until idle ones expire "
                    f"({self.idle_seconds:g} s), or {self._enlarge}",
                )
            self._reserved += size
        held = size

        def put(key: str, value: Value, taken: int | None = None) -> None:
            nonlocal held
            with self._lock:
                used = size if taken is None else min(size, taken)
                self._entries[key] = _Entry(value, used, self._clock())
                self._reserved, held = self._reserved - held, 0

        try:
            yield put
        finally:
            with self._lock:
                self._reserved -= held

    def _used(self) -> int:
        return self._reserved + sum(entry.size for entry in self._entries.values())

    def _expire(self) -> None:
        now = self._clock()
        for key in [k for k, e in self._entries.items() if now - e.used > self.idle_seconds]:
            del self._entries[key]


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
