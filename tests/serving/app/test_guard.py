"""Who is let through to the page's server."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsnet_trt.serving.app.guard import Guard

NAMES = frozenset({"workstation"})


def answer(
    headers: dict[str, str],
    method: str = "GET",
    path: str = "/",
    query: str = "",
    token: str | None = None,
) -> tuple[int, dict[str, str], bool]:
    """Status and headers of the answer, and whether the application was asked."""
    asked, sent = [], []

    async def application(scope, receive, send):
        asked.append(scope)
        framed = [(b"x-frame", b"kept"), (b"cache-control", b"public")]
        await send({"type": "http.response.start", "status": 200, "headers": framed})
        await send({"type": "http.response.body", "body": b"answered"})

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "scheme": "http",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    asyncio.run(Guard(application, NAMES, token)(scope, None, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, bool(asked)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:7860", "localhost", "[::1]:7860", "192.168.0.7", "workstation:80"]
)
def test_by_its_address_or_name(host):
    status, headers, asked = answer({"host": host})
    assert status == 200 and asked and headers["x-frame"] == "kept"
    assert headers["cache-control"] == "no-store"  # pictures stay in no cache
    assert "default-src 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    "host", ["", "evil.example", "127.0.0.1.evil.example:7860", "localhost.evil.example", "[::1"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_name_that_points_here(host, method):
    """DNS rebinding: a page of evil.example asks evil.example, which is now 127.0.0.1."""
    status, headers, asked = answer({"host": host, "origin": f"http://{host}"}, method)
    assert status == 421 and not asked and "content-security-policy" in headers


@given(st.text(st.characters(codec="latin-1"), max_size=30))
def test_any_host_is_answered(host):
    status, _, asked = answer({"host": host})
    assert (status, asked) in ((200, True), (421, False))


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:7860"},
        {"origin": "http://127.0.0.1:8000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_page_may_not_post(headers):
    status, _, asked = answer({"host": "127.0.0.1:7860", **headers}, "POST", "/api/pictures")
    assert status == 403 and not asked


def test_the_page_itself_may():
    own = {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:7860"}
    assert answer({**own, "sec-fetch-site": "same-origin"}, "POST")[2]
    assert answer({"host": "127.0.0.1:7860"}, "POST")[2]  # a program, not a page


def test_a_token_is_brought_once():
    host = {"host": "192.168.0.7:7860"}
    for query in ("", "token=", "token=wrong", "token=s%20cret"):
        assert answer(host, query=query, token="secret")[::2] == (401, False)
    assert answer(host, path="/api/about", query="token=secret", token="secret")[0] == 401
    status, headers, asked = answer(host, query="token=secret", token="secret")
    assert status == 303 and headers["location"] == "/" and not asked
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    held = {**host, "cookie": f"other=1; {cookie.partition(';')[0]}"}
    assert answer(held, path="/api/about", token="secret")[::2] == (200, True)
    assert answer({**host, "cookie": "hsnet-trt-token=secre"}, token="secret")[0] == 401
    assert answer({**held, "host": "evil.example"}, token="secret")[0] == 421
