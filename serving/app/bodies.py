"""Request bodies: received completely, with limits on size, time and number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.requests import Request

from hsnet_trt.errors import InputError
from hsnet_trt.serving.app.messages import BusyError, TooLargeError

_SECONDS = 120.0  # for a body to arrive
_STEP_SECONDS, _STEP_BYTES = 10.0, 160_000  # in every 10 s, 160 kB or the rest must arrive
# Complete bodies held at once. Arriving ones are bounded only by the bytes of as many largest ones.
_UNDER_WAY = 16


class Bodies:
    """Limits the bodies held. Only complete ones take a place, so slow clients block nobody."""

    def __init__(self, most_bytes: int) -> None:
        """Accept bodies of at most `most_bytes`."""
        self._most = most_bytes
        self._under_way = self._held_bytes = 0

    @asynccontextmanager
    async def held(self, request: Request) -> AsyncIterator[bytes]:
        """Receive a request's body, and hold it for the length of the block.

        Raises:
            TooLargeError: it exceeds the limit.
            InputError: it did not arrive in time.
            BusyError: too many bodies, or too many bytes, are held already.
        """
        self._check_places()  # refuse before the body is sent
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
