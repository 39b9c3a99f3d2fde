"""A Triton server with the tiny network, its client, and a segmenter of the same bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
from extras.triton_server.server import TritonServer

from hsnet_trt import FewShotSegmenter
from hsnet_trt.serving.triton_server.client import SegmentationClient
from hsnet_trt.serving.triton_server.repository import export_repository


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
