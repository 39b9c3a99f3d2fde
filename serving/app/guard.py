"""Access control of the page's server: this machine's browsers, or anyone with the token.

Two attacks by other web pages are refused even on a loopback address: cross-site requests (by
Origin and Sec-Fetch-Site), and DNS rebinding (by Host).
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

_COOKIE = "hsnet-trt-token"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(self), microphone=(), geolocation=()"),
    ("cache-control", "no-store"),
)


class Guard:
    """Passes requests to an application or refuses them; adds security headers to all answers."""

    def __init__(
        self, application: Application, names: frozenset[str], token: str | None = None
    ) -> None:
        """Guard an application.

        Args:
            application: the application to protect.
            names: accepted host names, besides any IP address and localhost.
            token: a browser must send it once, as `/?token=...`; None for no token.
        """
        self._application, self._token = application, token
        self._names = names | {"localhost"}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = {name for name, _ in _HEADERS}
                kept = [pair for pair in message["headers"] if pair[0].decode() not in ours]
                added = [(name.encode(), value.encode()) for name, value in _HEADERS]
                message = {**message, "headers": [*kept, *added]}
            await send(message)

        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send_guarded, *refusal)
            return
        if self._token is not None and not self._knows(headers):
            brought = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if scope["path"] == "/" and hmac.compare_digest(brought.encode(), self._token.encode()):
                cookie = f"{_COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict"
                await _answer(send_guarded, 303, "", location="/", set_cookie=cookie)
            else:
                await _answer(
                    send_guarded, 401, "Open the address that the terminal printed, token included."
                )
            return
        await self._application(scope, receive, send_guarded)

    def _refusal(self, scope: Message, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, "This server does not go by that name. Use its IP address or localhost."
        if scope["method"] in ("GET", "HEAD"):
            return None  # these change nothing, and other pages cannot read the answers
        origin = headers.get("origin")
        foreign = origin is not None and origin != f"{scope['scheme']}://{host}"
        if foreign or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "Another web page may not ask this server."
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _knows(self, headers: dict[str, str]) -> bool:
        pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
        held = {name: value for name, _, value in pairs}.get(_COOKIE, "")
        return hmac.compare_digest(held.encode(), str(self._token).encode())


async def _answer(send: Send, status: int, text: str, **headers: str) -> None:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    kind = (b"content-type", b"text/plain; charset=utf-8")
    await send({"type": "http.response.start", "status": status, "headers": [kind, *named]})
    await send({"type": "http.response.body", "body": text.encode()})
