"""What clients send that is no request, and more than the store holds."""

from __future__ import annotations

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from extras.triton_server.pictures import BLUE, picture, shot
from extras.triton_server.server import TritonServer, triton_or_skip
from helpers.pictures.scenes import GREEN, RED
from PIL import Image

from hsnet_trt.errors import InputError
from hsnet_trt.serving.store.store import StoreFullError
from hsnet_trt.serving.triton_server.client import SegmentationClient

grpc = triton_or_skip()


def raw(server: TritonServer, inputs: dict[str, list[bytes]], batch: int = 1):
    """A request as any client could write it; returns the server's result."""
    with grpc.InferenceServerClient(server.url) as client:
        tensors = []
        for name, values in inputs.items():
            tensor = grpc.InferInput(name, [batch, len(values)], "BYTES")
            tensor.set_data_from_numpy(np.array([values] * batch, dtype=np.object_))
            tensors.append(tensor)
        return client.infer("hsnet", tensors, client_timeout=30)


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes that says it is so large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def test_a_client_that_sends_rubbish(server, client, local):
    """Each piece of rubbish gets an error that says what it is; the others get their masks."""
    local.clear()
    local.set_support("red", *shot(RED))
    expected = local.segment(picture(1)).labels
    good = client.register({"red": [shot(RED)]})
    key, image = good.key.encode(), png(picture(1))
    support, mask = png(shot(RED)[0]), png(shot(RED)[1])
    jpeg = io.BytesIO()
    Image.fromarray(picture(1)).save(jpeg, "JPEG")
    segment = {"action": [b"segment"], "set": [key]}
    register = {"action": [b"register"], "class": [b"a"], "image": [support]}
    rubbish: list[tuple[dict[str, list[bytes]], str]] = [
        ({"action": [b"explode"]}, "no such action"),
        ({"action": [b"\xff\xfe"]}, "not text"),
        ({"action": [b"segment"], "image": [image]}, "needs one 'set'"),
        ({**segment, "set": [b"../../etc/passwd"], "image": [image]}, "no support set"),
        ({**segment}, "one picture"),
        ({**segment, "image": [image, image]}, "one picture"),
        ({**segment, "image": [b""]}, "not a picture"),
        ({**segment, "image": [b"GIF89a or so"]}, "not a picture"),
        (
            {**segment, "image": [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]},
            "not a pict",
        ),
        ({**segment, "image": [jpeg.getvalue()[:-400]]}, "damaged"),
        ({**segment, "image": [bomb(20000, 20000)]}, "too large"),
        ({**segment, "image": [bomb(1100, 1000)]}, "too large"),
        ({**register}, "pair up"),
        ({**register, "mask": [png(np.zeros((128, 192), np.uint8))]}, "empty"),
        ({**register, "mask": [png(np.ones((9, 9), np.uint8))]}, "size"),
        ({**register, "mask": [b"no mask"]}, "not a picture"),
        ({**register, "mask": [mask], "class": [b" "]}, "needs a name"),
        ({**register, "mask": [mask, mask]}, "pair up"),
    ]
    stop = threading.Event()
    wrong: list[str] = []

    def other() -> None:
        with SegmentationClient(server.url, timeout=60) as neighbour:
            while not stop.is_set():
                if not np.array_equal(neighbour.segment(picture(1), good).labels, expected):
                    wrong.append("another mask")

    thread = threading.Thread(target=other)
    thread.start()
    try:
        for inputs, message in rubbish:
            with pytest.raises(grpc.InferenceServerException, match=message):
                raw(server, inputs)
        with pytest.raises(grpc.InferenceServerException, match="one request does one thing"):
            raw(server, {**segment, "image": [image]}, batch=2)
        rng = np.random.default_rng(3)
        for _ in range(20):
            noise = bytearray(jpeg.getvalue())
            for place in rng.integers(2, len(noise), 30):
                noise[place] = rng.integers(0, 256)
            try:  # a JPEG survives some damage; whatever comes of it, the server does
                raw(server, {**segment, "image": [bytes(noise)]})
            except grpc.InferenceServerException as error:
                assert "server failed" not in error.message(), error
    finally:
        stop.set()
        thread.join()
    assert wrong == []
    with pytest.raises(InputError, match="too large") as caught:
        client.segment(np.zeros((1100, 1100, 3), np.uint8), good)
    assert "1100 x 1100" in str(caught.value)
    assert np.array_equal(client.segment(picture(1), good).labels, expected)
    client.forget(good)
    assert client.status()["used_bytes"] == 0  # nothing of the rubbish was kept


def test_a_full_store(client, local):
    """It refuses, and goes on with what it has; room comes back with `forget`."""
    four = {"red": [shot(RED, at) for at in (10, 20, 30, 40)]}
    first, second = client.register(four), client.register({"green": [shot(GREEN)] * 4})
    status = client.status()
    assert status["used_bytes"] == status["most_bytes"] == 8 * status["bytes_per_shot"]
    with pytest.raises(StoreFullError) as caught:
        client.register({"blue": [shot(BLUE)]})
    assert "2 support sets kept" in str(caught.value) and "store_megabytes" in str(caught.value)
    assert client.register(four).key == first.key  # what is there needs no room
    local.clear()
    local.set_support("green", *zip(*[shot(GREEN)] * 4, strict=True))
    for number in range(3):
        found = client.segment(picture(number), second)
        np.testing.assert_array_equal(found.labels, local.segment(picture(number)).labels)
    client.forget(first)
    blue = client.register({"blue": [shot(BLUE)]})
    with pytest.raises(StoreFullError):  # sent again unseen, and there is no room now
        client.segment(picture(0), first)
    for supports in (second, blue):
        client.forget(supports)


def test_errors_name_the_shot_of_its_class(server):
    """As a segmenter does, whatever the order of classes in the request."""
    image, mask = (png(array) for array in shot(RED))
    tiny = np.zeros(shot(RED)[1].shape, np.uint8)
    tiny[3, 2] = 255  # between the pixels that are kept
    wrong = {
        "the mask of shot 2 of 'b' is empty": png(np.zeros_like(tiny)),
        "the mask of shot 2 of 'b' is not of its image's size": png(np.ones((9, 9), np.uint8)),
        "the object of shot 2 of 'b' is too small": png(tiny),
    }
    for message, last in wrong.items():
        inputs = {"class": [b"a", b"b", b"a", b"c", b"b"], "mask": [mask] * 4 + [last]}
        with pytest.raises(grpc.InferenceServerException, match=message):
            raw(server, {"action": [b"register"], "image": [image] * 5, **inputs})


def test_notes_reach_the_client(client):
    image, mask = shot(RED)
    supports = client.register({"red": [(image, np.ones_like(mask))]})
    assert supports.notes == ("the mask of shot 1 of 'red' covers its whole image",)
    client.forget(supports)
