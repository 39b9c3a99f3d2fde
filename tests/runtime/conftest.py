"""Fixtures for the runtime: the tiny bundle, and supports of coloured boxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.pictures.scenes import GREEN, RED, scene

from hsnet_trt import FewShotSegmenter
from hsnet_trt.runtime.frames import frame_kernels


@pytest.fixture(autouse=True)
def no_kernels(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a package without compiled kernels, whatever was compiled into this tree."""
    monkeypatch.setattr(frame_kernels, "FATBIN", tmp_path_factory.getbasetemp() / "none.fatbin")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, to be read only."""
    return make_bundle(tmp_path_factory.mktemp("shared") / "bundle")


@pytest.fixture
def segmenter(bundle: Path) -> Iterator[FewShotSegmenter]:
    """The tiny bundle opened on the CPU, without supports."""
    with FewShotSegmenter.load(bundle, backend="onnxruntime") as opened:
        yield opened


@pytest.fixture
def red_shot() -> tuple[np.ndarray, np.ndarray]:
    """A support of a red box and its mask."""
    place = (slice(20, 100), slice(30, 150))
    mask = np.zeros((128, 192), bool)
    mask[place] = True
    return scene((128, 192), [(RED, place)]), mask


@pytest.fixture
def green_shot() -> tuple[np.ndarray, np.ndarray]:
    """A support of a green box and its mask."""
    place = (slice(40, 120), slice(20, 140))
    mask = np.zeros((128, 192), bool)
    mask[place] = True
    return scene((128, 192), [(GREEN, place)]), mask
