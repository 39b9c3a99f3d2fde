"""What the page's server refuses, and that it goes on."""

from __future__ import annotations

import asyncio
import io
import zipfile

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.pictures.page import LEFT, RIGHT, SUPPORT, file_of, mask_of, refusal, shot

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.matching.support_set import SupportSet
from hsnet_trt.runtime.segmenter import FewShotSegmenter
from hsnet_trt.serving.store.store import StoreFullError

pytest.importorskip("starlette", reason="the extra `app` is not installed")

from hsnet_trt.serving.app import bodies
from hsnet_trt.serving.app.server import make_application
from hsnet_trt.serving.app.supports import encode_shot, read_supports, shot_bytes
from hsnet_trt.serving.app.workspace import PageLimits, Workspace


@pytest.mark.parametrize(
    "path", ["pictures/x/shots", "pictures/x/mask", "pictures/x/cut", "sets/x/segment"]
)
def test_ids_that_were_never_given(client, path):
    answer = client.post(f"/api/{path}", content=file_of(mask_of(LEFT)))
    assert refusal(answer)[0] == 404


def test_sets_that_do_not_do(client):
    key = shot(client, LEFT)
    quoted = f'"{key}"'.encode()
    for body, status in (
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"[" * 100_000, 400),
        (b'{"classes": 3}', 400),
        (b'{"classes": []}', 400),
        (b'{"classes": [{"name": "a", "shots": []}]}', 400),
        (b'{"classes": [{"name": " ", "shots": [%s]}]}' % quoted, 400),
        (b'{"classes": [{"name": "half \\ud83d", "shots": [%s]}]}' % quoted, 400),
        (b'{"classes": [{"name": 7, "shots": [%s]}]}' % quoted, 400),
        (b'{"classes": [{"name": "a", "shots": [7]}]}', 400),
        (b'{"classes": [{"name": "a", "shots": ["never"]}]}', 404),
        (b'{"classes": [{"name": "a", "shots": [%s]}]}' % b",".join([quoted] * 4), 400),
    ):
        assert client.post("/api/sets", content=body).status_code == status, body[:60]
    twice = {"classes": [{"name": "a", "shots": [key]}] * 2}
    assert refusal(client.post("/api/sets", json=twice)) == (400, "these are no classes")


def test_uploads_are_bounded(client):
    status, _ = refusal(client.post("/api/pictures", content=bytes(200_001)))
    assert status == 413

    def chunks():  # no Content-Length tells
        yield from (bytes(50_000) for _ in range(5))

    assert refusal(client.post("/api/pictures", content=chunks()))[0] == 413
    many = file_of(np.zeros((800, 700, 3), np.uint8))  # small as a file, large as a picture
    assert len(many) < 200_000
    assert refusal(client.post("/api/pictures", content=many)) == (
        400,
        "the photograph is too large",
    )


@pytest.mark.parametrize("kind", ["GIF", "EPS", "PDF"])
def test_formats_that_are_not_decoded(client, kind):
    assert refusal(client.post("/api/pictures", content=file_of(SUPPORT, kind)))[0] == 400


def test_files_that_are_no_support_sets(client, network, bundle, tmp_path):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.npy", bytes(50_000_000))
    pickled = io.BytesIO()
    np.savez(pickled, header=np.array({"a": 1}, dtype=object))
    with FewShotSegmenter.load(make_bundle(tmp_path / "other", weights="cd" * 32)) as other:
        other.set_support("red", SUPPORT, mask_of(LEFT))
        other.save_supports(tmp_path / "other.npz")
    foreign = (tmp_path / "other.npz").read_bytes()
    assert len(bomb.getvalue()) < 200_000
    for content in (
        b"",
        b"PK\3\4 and so on",
        bomb.getvalue(),
        pickled.getvalue(),
        foreign,
        foreign[:-99],
    ):
        assert client.post("/api/supports", content=content).status_code == 400
    with pytest.raises(InputError, match="encoded by another model"):
        read_supports(network, foreign)
    with pytest.raises(InputError, match="bytes that unpack to 50000000"):
        read_supports(network, bomb.getvalue())


def test_a_set_that_finds_no_room_leaves_nothing_behind(network):
    """Its first shots would fill the store until they expire, though nobody knows their ids."""
    shots = [encode_shot(network, SUPPORT, mask_of(place))[0] for place in (LEFT, RIGHT)]
    content = io.BytesIO()
    SupportSet({"red": shots[:1], "green": shots[1:]}).write(content, network.origin)
    room = sum(map(shot_bytes, shots)) - 1
    small = Workspace(network, PageLimits(store_bytes=room))
    for _ in range(2):
        with pytest.raises(StoreFullError, match="encoded shots") as caught:
            small.load(content.getvalue())
        assert "1 encoded shots kept" in str(caught.value)
    content = io.BytesIO()
    SupportSet({"red": shots[:1]}).write(content, network.origin)
    assert list(small.load(content.getvalue())) == ["red"]


def test_the_server_goes_on_when_it_fails(client, workspace, monkeypatch):
    def broken(content: bytes) -> None:
        raise RuntimeError("of /a/secret/path")

    monkeypatch.setattr(workspace, "add_picture", broken)
    answer = client.post("/api/pictures", content=b"x")
    assert refusal(answer) == (500, "the server failed") and "secret" not in answer.text


def test_a_body_that_does_not_arrive(workspace, monkeypatch):
    monkeypatch.setattr(bodies, "_SECONDS", 0.05)
    sent = []

    async def receive():
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/pictures",
        "headers": [],
        "query_string": b"",
    }
    asyncio.run(make_application(workspace)(scope, receive, send))
    assert sent[0]["status"] == 400 and b"did not arrive" in sent[1]["body"]


def test_too_much_at_once_is_refused(client, monkeypatch):
    monkeypatch.setattr(bodies, "_UNDER_WAY", 0)
    assert refusal(client.post("/api/pictures", content=b"x")) == (503, "the server is busy")
    assert client.get("/api/about").status_code == 200
