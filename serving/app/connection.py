"""A client's connection that is closed when the client stalls.

Uvicorn has no timeout for a request's head, for the rest of a refused body, or for a client that
does not read its answer. So slow clients could take all connections.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_SECONDS = 10.0  # between two checks; a connection without progress from one to the next is closed


class Connection(H11Protocol):
    """HTTP/1.1 on one connection. The application limits how long a body may take."""

    _next_look: asyncio.TimerHandle | None = None
    _seen: tuple[object, bool, int] = (None, False, 0)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the connection and its checks."""
        super().connection_made(transport)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the checks."""
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close the connection if the client made no progress since the last check."""
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
