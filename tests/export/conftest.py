"""A real bundle of a small network, exported once for all the tests that read it."""

from pathlib import Path

import onnx
import pytest
from helpers.bundles.real_contract import KERNELS, ORIN

from hsnet_trt.export.bundle import export_bundle
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.recipe import recipe_model
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.frames import frame_kernels

SIZE = (64, 96)
FAKES = Path(__file__).parent / "fakes"


@pytest.fixture(scope="session")
def resnet18() -> HSNet:
    return recipe_model("resnet18")


@pytest.fixture(scope="session")
def real_bundle(resnet18: HSNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet-18 at 64 x 96, both lowerings, and the plugin's form of conv2d."""
    path = tmp_path_factory.mktemp("real") / "bundle"
    with pytest.MonkeyPatch.context() as patch:  # compiling them takes a minute
        patch.setattr("hsnet_trt.export.bundle.compiled_kernels", lambda: KERNELS)
        patch.setattr(frame_kernels, "compiled_kernels", lambda: None)
        export_bundle(
            resnet18,
            path,
            sizes=[SIZE],
            lowerings=["conv2d", "conv3d"],
            correlations=["native", "plugin"],
            command="a test's",
        )
    return path


@pytest.fixture(scope="session")
def graphs(real_bundle: Path) -> dict[str, onnx.ModelProto]:
    bundle = Bundle.open(real_bundle)
    return {
        Path(g.file).stem: onnx.load_from_string(bundle.read(g.file))
        for g in bundle.manifest.graphs
    }


@pytest.fixture
def real_kernels() -> None:
    """For a test that compiles the frames' kernels itself; others build engines without them."""


@pytest.fixture(autouse=True)
def no_frame_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_kernels" not in request.fixturenames:
        monkeypatch.setattr(frame_kernels, "compiled_kernels", lambda: None)


@pytest.fixture
def orin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A Jetson AGX Orin with TensorRT 10.3; returns where the fake writes what it was asked."""
    monkeypatch.syspath_prepend(FAKES)
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.setenv("FAKE_TENSORRT_RECORD", str(tmp_path / "calls.json"))
    monkeypatch.setattr("hsnet_trt.export.build_engine.find_driver", lambda: ORIN)
    return tmp_path / "calls.json"
