"""A small network, its checkpoint and its bundle, made once for all the tests that read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsnet_trt.export.bundle import export_bundle
from hsnet_trt.model.checkpoint import save_checkpoint
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.recipe import recipe_model

SIZE = (64, 64)


@pytest.fixture(scope="session")
def model() -> HSNet:
    return recipe_model("resnet18")


@pytest.fixture(scope="session")
def checkpoint(model: HSNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    save_checkpoint(model, path)
    return path


@pytest.fixture(scope="session")
def bundle(model: HSNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "bundle"
    export_bundle(model, path, sizes=[SIZE], correlations=["native"])
    return path
