"""One connection of a client's, ended when the client keeps it waiting.

Uvicorn waits without end for a request's head, for the rest of a body that was refused, and for an
answer to be read: clients that drip would take all of its connections.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_SECONDS = 10.0  # between two looks; what was waited for from one to the next is not waited for


class Connection(H11Protocol):
    """HTTP/1.1 on one connection. How long a body may take is up to the application."""

    _next_look: asyncio.TimerHandle | None = None
    _seen: tuple[object, bool, int] = (None, False, 0)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, and look after it from now on."""
        super().connection_made(transport)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """End it if nothing has come of it since the last look."""
        cycle: Any = self.cycle
        idle = cycle is None or cycle.response_complete  # the client's turn
        unread = self.transport.get_write_buffer_size()
        last, was_idle, was_unread = self._seen
        stuck = self._next_look is not None and cycle is last and unread >= was_unread
        if stuck and ((idle and was_idle) or was_unread):
            self.transport.abort()
            return
        self._seen = (cycle, idle, unread)
        self._next_look = self.loop.call_later(_SECONDS, self._look)
