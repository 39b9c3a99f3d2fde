"""Fixtures for the page's server: it serves a bundle that segments by colour."""

from __future__ import annotations

import pytest
from helpers.bundles.tiny import make_bundle

from hsnet_trt.runtime.network import Network
from hsnet_trt.serving.app.workspace import PageLimits, Workspace


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("page") / "bundle")


@pytest.fixture(scope="module")
def network(bundle):
    network = Network.load(bundle, "onnxruntime")
    yield network
    network.close()


@pytest.fixture
def workspace(network):
    return Workspace(network, PageLimits(upload_bytes=200_000, pixels=500_000, shots=3))


@pytest.fixture
def client(workspace):
    pytest.importorskip("starlette", reason="the extra `app` is not installed")
    from starlette.testclient import TestClient

    from hsnet_trt.serving.app.server import make_application

    return TestClient(make_application(workspace))
