"""The bundles that the extras are tried with. `make test-extras` installs what they need."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_bundle import make_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, which segments by colour; to be read only."""
    return make_bundle(tmp_path_factory.mktemp("shared") / "bundle")


@pytest.fixture(scope="session")
def network_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HSNet itself, random weights, at 64 x 64."""
    import torch

    from hsnet_trt.export.bundle import export_bundle
    from hsnet_trt.model import HSNet

    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("network") / "bundle"
    export_bundle(HSNet("resnet18"), path, sizes=((64, 64),))
    return path
