"""TensorRT on a GPU that is not there."""

from __future__ import annotations

import pytest
from helpers.bundles.with_engines import VERSION
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    driver = FakeDriver()
    install(monkeypatch, driver, fake_tensorrt(driver, VERSION))
    return driver
