"""Bodies of requests: taken whole, but not too large, too slow or too many at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.requests import Request

from hsnet_trt.errors import InputError
from hsnet_trt.serving.app.messages import BusyError, TooLargeError

_SECONDS = 120.0  # for a body to arrive
_STEP_SECONDS, _STEP_BYTES = 10.0, 160_000  # so much, or the rest, must come in each step of it
_UNDER_WAY = 16  # requests with a whole body at once; no more than their bytes, arriving ones too


class Bodies:
    """Counts what is held. Only whole bodies take a place: who sends slowly keeps nobody out."""

    def __init__(self, most_bytes: int) -> None:
        """Take bodies of so many bytes at most."""
        self._most = most_bytes
        self._under_way = self._held_bytes = 0

    @asynccontextmanager
    async def held(self, request: Request) -> AsyncIterator[bytes]:
        """All that was sent, for as long as it is worked on.

        Raises:
            TooLargeError: it is more than is taken.
            InputError: it did not arrive in time.
            BusyError: too many are held already.
        """
        self._check_places()  # before it is sent in vain
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._most:
            raise _too_large(int(declared), self._most)
        body = await self._receive(request)
        try:
            self._check_places()
            self._under_way += 1
            try:
                yield body
            finally:
                self._under_way -= 1
        finally:
            self._held_bytes -= len(body)

    async def _receive(self, request: Request) -> bytes:
        content, step = bytearray(), 0
        end = anyio.current_time() + _SECONDS
        try:
            with anyio.fail_after(min(_SECONDS, _STEP_SECONDS)) as limit:
                async for part in request.stream():
                    if len(content) + len(part) > self._most:
                        raise _too_large(len(content) + len(part), self._most)
                    if self._held_bytes + len(part) > _UNDER_WAY * self._most:
                        raise _busy()
                    self._held_bytes += len(part)
                    content += part
                    if len(content) - step >= _STEP_BYTES:
                        step = len(content)
                        limit.deadline = min(end, anyio.current_time() + _STEP_SECONDS)
            return bytes(content)
        except BaseException as error:
            self._held_bytes -= len(content)
            if not isinstance(error, TimeoutError):
                raise
            raise InputError(
                "the file did not arrive",
                expected=f"all of it within {_SECONDS:g} s, and "
                f"{_STEP_BYTES / 1e3:g} kB in every {_STEP_SECONDS:g} s",
                found=f"{len(content)} bytes",
            ) from error

    def _check_places(self) -> None:
        if self._under_way >= _UNDER_WAY:
            raise _busy()


def _busy() -> BusyError:
    return BusyError("the server is busy", fix="try again in a moment")


def _too_large(found: int, most: int) -> TooLargeError:
    return TooLargeError(
        "the file is too large",
        expected=f"{most / 1e6:g} MB at most",
        found=f"{found / 1e6:.1f} MB or more",
        fix="scale the picture down, or start the page with a larger --max-upload-mb",
    )
