"""Uploads that come slowly, or many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hsnet_trt.errors import InputError

pytest.importorskip("starlette", reason="the extra `app` is not installed")
from starlette.requests import ClientDisconnect, Request

from hsnet_trt.serving.app import bodies
from hsnet_trt.serving.app.bodies import Bodies
from hsnet_trt.serving.app.messages import BusyError, TooLargeError


def upload(parts: AsyncIterator[bytes]) -> Request:
    """A request whose body comes in these parts, without a Content-Length."""

    async def receive() -> dict[str, Any]:
        try:
            return {"type": "http.request", "body": await anext(parts), "more_body": True}
        except StopAsyncIteration:
            return {"type": "http.request", "body": b"", "more_body": False}
        except ConnectionError:
            return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def steadily(part: bytes, count: int, pause: float = 0.0) -> AsyncIterator[bytes]:
    for _ in range(count):
        await asyncio.sleep(pause)
        yield part


async def then_gone(part: bytes) -> AsyncIterator[bytes]:
    yield part
    raise ConnectionError


async def take(held: Bodies, parts: AsyncIterator[bytes]) -> bytes:
    async with held.held(upload(parts)) as body:
        return body


def test_slow_ones_keep_nobody_out() -> None:
    """Three times as many drip as there are places."""

    async def run() -> None:
        held = Bodies(1000)
        slow = [asyncio.create_task(take(held, steadily(b"a", 999, 1.0))) for _ in range(48)]
        await asyncio.sleep(0)
        for _ in range(20):
            assert await take(held, steadily(b"abc", 5)) == b"abc" * 5
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)

    asyncio.run(run())


def test_how_slowly_a_body_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_STEP_SECONDS", 1.0)
    monkeypatch.setattr(bodies, "_STEP_BYTES", 4)
    held = Bodies(1000)
    # Longer than a step in all, but enough in each; then too little.
    assert len(asyncio.run(take(held, steadily(b"ab", 30, 0.05)))) == 60
    with pytest.raises(InputError, match="did not arrive"):
        asyncio.run(take(held, steadily(b"a", 999, 0.4)))


def test_all_that_is_held_is_bounded_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_UNDER_WAY", 2)

    async def run() -> None:
        held, go_on = Bodies(1000), asyncio.Event()

        async def stalls() -> AsyncIterator[bytes]:
            yield bytes(900)
            await go_on.wait()

        async def works() -> None:
            async with held.held(upload(steadily(b"a", 1))):
                await go_on.wait()

        arriving = [asyncio.create_task(take(held, stalls())) for _ in range(2)]
        await asyncio.sleep(0.01)
        with pytest.raises(BusyError):
            await take(held, steadily(bytes(300), 1))
        assert len(await take(held, steadily(bytes(200), 1))) == 200
        go_on.set()
        await asyncio.gather(*arriving)
        for parts, error in (
            (steadily(bytes(600), 2), TooLargeError),
            (then_gone(bytes(900)), ClientDisconnect),
        ):
            with pytest.raises(error):
                await take(held, parts)
        go_on.clear()
        working = [asyncio.create_task(works()) for _ in range(2)]
        await asyncio.sleep(0.01)
        with pytest.raises(BusyError):
            await take(held, steadily(b"a", 1))
        go_on.set()
        await asyncio.gather(*working)
        assert (held._held_bytes, held._under_way) == (0, 0)
        assert len(await take(held, steadily(bytes(500), 2))) == 1000

    asyncio.run(run())
