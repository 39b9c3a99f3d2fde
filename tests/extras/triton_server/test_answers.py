"""The repository served for real: answers are those of a segmenter, also of many at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from extras.triton_server.pictures import BLUE, picture, shot
from extras.triton_server.server import TritonServer, triton_or_skip
from helpers.bundles.tiny import make_bundle
from helpers.pictures.scenes import GREEN, RED, scene
from PIL import Image

from hsnet_trt import FewShotSegmenter
from hsnet_trt.serving.triton_server.client import SegmentationClient
from hsnet_trt.serving.triton_server.repository import export_repository

triton_or_skip()


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
