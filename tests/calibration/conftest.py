"""A real bundle, exported once, its subject, and episodes of coloured blobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.data_sets.blob_episodes import BLOBS, SIZE
from helpers.data_sets.tiny_sets import write_folder

from hsnet_trt.calibration.collect import collect
from hsnet_trt.calibration.subject import Subject
from hsnet_trt.calibration.table import CalibrationTable
from hsnet_trt.export.bundle import export_bundle
from hsnet_trt.model.recipe import recipe_model
from hsnet_trt.runtime.bundle import Bundle


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker exports the bundle for all of these tests."""
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.path).parents:
            item.add_marker(pytest.mark.xdist_group("calibration"))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("fp32") / "bundle"
    lowerings, precisions = ("conv2d", "packed"), ("fp32",)
    export_bundle(
        recipe_model("resnet18"), path, sizes=[SIZE], lowerings=lowerings, precisions=precisions
    )
    return Bundle.open(path)


@pytest.fixture
def subject(bundle: Bundle) -> Subject:
    return Subject(bundle, SIZE)


@pytest.fixture(scope="session")
def table(bundle: Bundle) -> CalibrationTable:
    return collect(Subject(bundle, SIZE), BLOBS, 8, method="percentile", made_by="a test")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"), classes=2, images=5, size=SIZE)
