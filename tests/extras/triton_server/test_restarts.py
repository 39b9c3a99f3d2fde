"""A server whose models, workers or processes change while a client works."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
from extras.triton_server.pictures import picture, shot
from extras.triton_server.server import triton_or_skip
from helpers.bundles.tiny import make_bundle
from helpers.pictures.scenes import GREEN, RED

from hsnet_trt.errors import BackendError
from hsnet_trt.serving.store.store import UnknownSetError
from hsnet_trt.serving.triton_server.client import Supports
from hsnet_trt.serving.triton_server.repository import export_repository

grpc = triton_or_skip()


def test_what_python_writes_does_not_make_the_server_load_anew(server, client):
    """The server polls for new versions every second; a set outlives that."""
    supports = client.register({"red": [shot(RED)]})
    time.sleep(3)
    assert client.status()["sets"] == 1
    assert server.log.read_text(errors="replace").count('"loading: hsnet:1"') == 1
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
