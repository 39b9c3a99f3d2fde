"""A segmenter whose engines, CUDA and frame kernels are the fakes of a GPU that is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.bundles.tiny_graphs import SIZE
from helpers.bundles.with_engines import VERSION, engine_bundle, engines
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt

from hsnet_trt import FewShotSegmenter
from hsnet_trt.runtime.engines.runner import TensorRTRunner
from hsnet_trt.runtime.network import Network


def load(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    profile: tuple[int, int, int] = (1, 1, 4),
    integrated: bool = False,
    contrast: float = 0.0,
    contents: dict[str, bytes] | None = None,
    refine: bool | None = None,
    **libraries: bool,
) -> tuple[FewShotSegmenter, FakeDriver, Any]:
    """The tiny bundle opened on the fakes; gives cuda-bindings' fake, too, where it is wanted."""
    driver = FakeDriver()
    driver.integrated = integrated
    bindings = install(monkeypatch, driver, fake_tensorrt(driver, VERSION, profile), **libraries)
    made = engines(profile[2])
    bundle = engine_bundle(path, made, contrast, **(contents or {}))
    network = Network(bundle, TensorRTRunner(bundle, made), SIZE, "", refine)
    return FewShotSegmenter(network), driver, bindings
