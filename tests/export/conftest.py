"""A real bundle of a small network, exported once for all the tests that read it."""

from pathlib import Path

import pytest

from hsnet_trt.export.bundle import export_bundle
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.recipe import recipe_model

SIZE = (64, 96)


@pytest.fixture(scope="session")
def resnet18() -> HSNet:
    return recipe_model("resnet18")


@pytest.fixture(scope="session")
def real_bundle(resnet18: HSNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet-18 at 64 x 96, both lowerings."""
    path = tmp_path_factory.mktemp("real") / "bundle"
    export_bundle(resnet18, path, sizes=[SIZE], lowerings=["conv2d", "conv3d"], command="a test's")
    return path
