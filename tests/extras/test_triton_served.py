"""The repository served for real, by the Triton server that nvidia-pytriton carries (CPU)."""

from __future__ import annotations

import io
import os
import signal
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from extras.triton_server import VENV, TritonServer
from helpers.bundles.tiny import make_bundle
from helpers.pictures.scenes import GREEN, RED, scene
from PIL import Image

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BackendError, InputError
from hsnet_trt.serving.store.store import StoreFullError, UnknownSetError
from hsnet_trt.serving.triton_server.client import SegmentationClient, Supports
from hsnet_trt.serving.triton_server.repository import export_repository

grpc = pytest.importorskip("tritonclient.grpc", reason="the extra `triton` is not installed")
if not list(VENV.glob("lib/python3.*/site-packages/pytriton/tritonserver/bin/tritonserver")):
    pytest.skip("nvidia-pytriton is not installed", allow_module_level=True)

BLUE = (30, 40, 210)


def shot(colour: tuple[int, int, int], at: int = 20) -> tuple[np.ndarray, np.ndarray]:
    place = (slice(at, at + 80), slice(30, 150))
    mask = np.zeros((128, 192), bool)
    mask[place] = True
    return scene((128, 192), [(colour, place)]), mask


def picture(number: int) -> np.ndarray:
    """A red, a green and a blue box; every number another size and other places."""
    rng = np.random.default_rng(number)
    size = (int(rng.integers(90, 200)), int(rng.integers(90, 200)))
    third = size[1] // 3
    boxes = []
    for index, colour in enumerate((RED, GREEN, BLUE)):
        top = int(rng.integers(0, 30))
        left = index * third
        boxes.append((colour, (slice(top, top + 50), slice(left, left + third - 8))))
    return scene(size, boxes)


def tune(repository: Path, **parameters: object) -> None:
    """Change what the people who run a server may change."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    path = repository / "hsnet" / "config.pbtxt"
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    for key, value in parameters.items():
        config.parameters[key].string_value = str(value)
    path.write_text(text_format.MessageToString(config))


@pytest.fixture(scope="module")
def server(bundle, tmp_path_factory):
    """The tiny network, with a store for eight shots."""
    folder = tmp_path_factory.mktemp("triton")
    export_repository([bundle], folder / "repo", ["tensorrt", "python"])
    tune(folder / "repo", store_megabytes=8 * 6144 / 1e6, most_megapixels=1)
    server = TritonServer(folder / "repo", folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server):
    with SegmentationClient(server.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def local(bundle):
    with FewShotSegmenter.load(bundle, "onnxruntime") as segmenter:
        yield segmenter


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


def test_what_python_writes_does_not_make_the_server_load_anew(server, client):
    """The server polls for new versions every second; a set outlives that."""
    supports = client.register({"red": [shot(RED)]})
    time.sleep(3)
    assert client.status()["sets"] == 1
    assert server.log.read_text(errors="replace").count('"loading: hsnet:1"') == 1
    client.forget(supports)


def test_as_the_segmenter_itself(client, local, tmp_path):
    """Classes, several shots, files and arrays: the server answers as a segmenter does."""
    local.clear()
    local.set_support("red", *zip(shot(RED), shot(RED, 40), strict=True))
    local.set_support("blue", *shot(BLUE))
    image, mask = shot(BLUE)
    Image.fromarray(image).save(tmp_path / "blue.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    supports = client.register(
        {
            "red": [shot(RED), shot(RED, 40)],
            "blue": [(tmp_path / "blue.png", tmp_path / "mask.png")],
        }
    )
    assert supports.classes == ("red", "blue")
    for number in range(4):
        expected, found = local.segment(picture(number)), client.segment(picture(number), supports)
        assert found.classes == expected.classes
        np.testing.assert_array_equal(found.labels, expected.labels)
        for name in expected.classes:
            np.testing.assert_array_equal(found.masks[name], expected.masks[name])
            np.testing.assert_allclose(found.scores[name], expected.scores[name], atol=1e-6)
        assert found.presence == pytest.approx(expected.presence, abs=1e-6)
        assert expected.labels.max() == 2
        assert set(found.timing) == set(expected.timing)
    small = client.segment(picture(0), supports, large=False)
    assert small.masks == {} and small.labels.shape == picture(0).shape[:2]
    client.forget(supports)


def test_what_is_not_there_is_not_shown(tmp_path):
    """A threshold between two classes: as in the process itself, with many and with no planes."""
    path = make_bundle(tmp_path / "bundle", replace={"present_from": 0.95})
    query = scene((128, 192), [(RED, (slice(0, 128), slice(0, 192)))])
    export_repository([path], tmp_path / "repo", ["python"])
    server = TritonServer(tmp_path / "repo", tmp_path)
    server.start()
    try:
        with (
            SegmentationClient(server.url) as client,
            FewShotSegmenter.load(path, "onnxruntime") as local,
        ):
            local.set_support("red", *zip(shot(RED), shot(RED, 40), strict=True))
            local.set_support("green", *shot(GREEN))
            supports = client.register({"red": [shot(RED), shot(RED, 40)], "green": [shot(GREEN)]})
            expected, found = local.segment(query), client.segment(query, supports)
            small = client.segment(query, supports, large=False)
    finally:
        server.stop()
    assert found.present == small.present == expected.present == {"red": True, "green": False}
    assert found.present_from == 0.95
    assert found.presence == pytest.approx(expected.presence, abs=1e-6)
    kept = found.only_present()
    np.testing.assert_array_equal(kept.labels, expected.only_present().labels)
    assert not kept.masks["green"].any()
    assert set(np.unique(small.only_present().labels)) <= {0, 1}


def test_eight_clients_at_once_and_two_sets_that_must_not_mix(server, local):
    wanted = {}
    for name, colour in (("red", RED), ("green", GREEN)):
        local.clear()
        local.set_support("it", *shot(colour))
        wanted[name] = [local.segment(picture(number)).labels for number in range(40)]
    differ = [(a != b).any() for a, b in zip(wanted["red"], wanted["green"], strict=True)]
    assert all(differ)
    start = threading.Barrier(8)

    def work(index: int) -> list[str]:
        name, colour = (("red", RED), ("green", GREEN))[index % 2]
        wrong = []
        with SegmentationClient(server.url, timeout=60) as client:
            supports = client.register({"it": [shot(colour)]})
            start.wait(30)
            for number in np.random.default_rng(index).permutation(40):
                labels = client.segment(picture(number), supports, large=number % 2 == 0).labels
                if not np.array_equal(labels, wanted[name][number]):
                    wrong.append(f"client {index}, {name}, picture {number}")
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert [line for wrong in pool.map(work, range(8)) for line in wrong] == []
    with SegmentationClient(server.url) as client:
        assert client.status()["sets"] == 2  # the same supports have the same id
        for colour in (RED, GREEN):
            client.forget(client.register({"it": [shot(colour)]}))
        assert client.status()["sets"] == 0


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


def test_notes_reach_the_client(client):
    image, mask = shot(RED)
    supports = client.register({"red": [(image, np.ones_like(mask))]})
    assert "covers its whole image" in supports.notes[0]
    client.forget(supports)


def test_the_next_version_takes_over(server, bundle, client, tmp_path):
    """Another version is written into the repository of a running server, while a client works."""
    supports = client.register({"red": [shot(RED)]})
    before = client.segment(picture(2), supports)
    greener = make_bundle(tmp_path / "bundle", weights="cd" * 32)
    repository = export_repository([greener], server.repository, ["python"])
    assert repository.version == 2
    with grpc.InferenceServerClient(server.url) as plain:
        end = time.monotonic() + 60
        while not plain.is_model_ready("hsnet", "2"):
            assert time.monotonic() < end, server.tail()
            np.testing.assert_array_equal(
                client.segment(picture(2), supports).labels, before.labels
            )
            time.sleep(0.2)
        assert plain.is_model_ready("hsnet", "1")
    assert client.status()["weights_sha256"] == "cd" * 32
    np.testing.assert_array_equal(client.segment(picture(2), supports).labels, before.labels)


def test_a_dead_worker_and_a_restart(server, client):
    """A dead worker is an error, not silence; after a restart a client's sets are there again."""
    supports = client.register({"green": [shot(GREEN)]})
    before = client.segment(picture(3), supports)
    stranger = Supports(supports.key, supports.classes)  # who knows the id, not the pictures
    np.testing.assert_array_equal(client.segment(picture(3), stranger).labels, before.labels)
    workers = server.workers("hsnet")
    assert workers
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    with pytest.raises(BackendError, match="gave no answer"):
        client.segment(picture(3), supports)
    server.kill()
    began = time.monotonic()
    with pytest.raises(BackendError, match="gave no answer"):
        client.segment(picture(3), supports)
    assert time.monotonic() - began < 35  # the client's own limit is 30
    server.start()
    with pytest.raises(UnknownSetError, match="no support set"):
        client.segment(picture(3), stranger)
    np.testing.assert_array_equal(client.segment(picture(3), supports).labels, before.labels)


def test_hsnet_itself_and_idle_sets(network_bundle, tmp_path):
    """The real network gives a segmenter's masks; a set that nobody uses goes."""
    export_repository([network_bundle], tmp_path / "repo", ["python"], prefix="rock")
    config = tmp_path / "repo" / "rock" / "config.pbtxt"
    text = config.read_text()
    assert '"3600"' in text
    config.write_text(text.replace('"3600"', '"2"'))
    server = TritonServer(tmp_path / "repo", tmp_path)
    server.start()
    try:
        with (
            SegmentationClient(server.url, "rock") as client,
            FewShotSegmenter.load(network_bundle, "onnxruntime") as local,
        ):
            rng = np.random.default_rng(0)
            shots = []
            for colour in (RED, GREEN, BLUE):
                image, mask = shot(colour)
                shots.append((rng.integers(0, 60, image.shape, np.uint8) + image // 2, mask))
            supports = client.register({"a": shots[:2], "b": shots[2:]})
            local.set_support("a", *zip(*shots[:2], strict=True))
            local.set_support("b", *shots[2])
            for number in range(3):
                query = picture(number)
                expected, found = local.segment(query), client.segment(query, supports)
                for name in ("a", "b"):
                    np.testing.assert_allclose(found.scores[name], expected.scores[name], atol=1e-5)
                assert (found.labels == expected.labels).mean() > 0.999
            assert client.status()["sets"] == 1
            # Packed: what lies outside of the masks is not kept.
            assert 0 < client.status()["used_bytes"] < 3 * client.status()["bytes_per_shot"]
            time.sleep(2.5)
            assert client.status()["sets"] == 0
            assert client.status()["used_bytes"] == 0
            assert client.segment(picture(0), supports).classes == ("a", "b")  # sent again
    finally:
        server.stop()
