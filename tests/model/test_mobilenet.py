import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hsnet_trt.errors import HSNetWarning
from hsnet_trt.model.checkpoint import load_checkpoint
from hsnet_trt.model.mobilenet import MobileNetV2
from hsnet_trt.model.recipe import recipe_model

_NAME = "mobilenet_v2"


def _norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """Batch norm by its definition."""
    weight, bias, mean, var = (
        state[f"{name}.{part}"].view(-1, 1, 1)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def test_blocks_are_those_of_the_paper_s_table_in_float64():
    """Table 2 of arXiv 1801.04381, written out again."""
    model = recipe_model(_NAME).backbone.double()
    state = model.state_dict()
    image = torch.randn(1, 3, 96, 128, dtype=torch.float64)
    x = F.conv2d(image, state["features.0.0.weight"], stride=2, padding=1)
    x = _norm(x, state, "features.0.1").clamp(0, 6)
    strides = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    widths = [16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320]
    outputs = []
    for i, (stride, width) in enumerate(zip(strides, widths, strict=True)):
        name, y, at = f"features.{i + 1}.conv", x, 0
        if i:
            y = F.conv2d(y, state[f"{name}.0.0.weight"])
            assert y.shape[1] == 6 * x.shape[1]
            y, at = _norm(y, state, f"{name}.0.1").clamp(0, 6), 1
        depthwise = state[f"{name}.{at}.0.weight"]
        assert depthwise.shape[1:] == (1, 3, 3)
        y = F.conv2d(y, depthwise, stride=stride, padding=1, groups=len(depthwise))
        y = _norm(y, state, f"{name}.{at}.1").clamp(0, 6)
        y = _norm(F.conv2d(y, state[f"{name}.{at + 1}.weight"]), state, f"{name}.{at + 2}")
        x = y + x if y.shape == x.shape else y
        assert x.shape[1] == width
        outputs.append(x)
    with torch.no_grad():
        levels = model(image)
    flat = [feature for level in levels for feature in level]
    assert [len(level) for level in levels] == list(MobileNetV2.layers)
    for feature, expected in zip(flat, outputs[3:], strict=True):
        width = expected.shape[1]
        np.testing.assert_allclose(feature[:, :width].numpy(), expected.numpy(), atol=1e-5)
        assert not feature[:, width:].any()


@pytest.mark.parametrize("size", [64, 65, 100, 127, 288, 400])
def test_grid_is_the_extent_of_the_features(size):
    with torch.no_grad():
        levels = MobileNetV2().eval()(torch.zeros(1, 3, size, 64))
    assert tuple(level[0].shape[2] for level in levels) == MobileNetV2.grid(size)


def _as_first_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with each block as one list: convolution, norm, (ReLU6,) and so on."""
    names = {}
    for block in range(1, 18):
        old = ["0.0", "0.1", "1", "2"] if block == 1 else ["0.0", "0.1", "1.0", "1.1", "2", "3"]
        new = [0, 1, 3, 4] if block == 1 else [0, 1, 3, 4, 6, 7]
        for a, b in zip(old, new, strict=True):
            names[f"features.{block}.conv.{a}."] = f"features.{block}.conv.{b}."
    return {
        next((new + key[len(old) :] for old, new in names.items() if key.startswith(old)), key): v
        for key, v in state.items()
    }


@pytest.mark.parametrize("change", [dict, _as_first_published], ids=["torchvision", "one list"])
def test_both_published_forms_load(tmp_path, change):
    """With the parts that HSNet does not use, which are left out."""
    backbone = recipe_model(_NAME).backbone
    state = change(backbone.state_dict())
    assert (len(state), "features.2.conv.6.weight" in state) == (306, change is not dict)
    state["features.18.0.weight"] = torch.zeros(1280, 320, 1, 1)
    state["classifier.1.weight"] = torch.zeros(1000, 1280)
    torch.save(state, tmp_path / "weights.pt")
    with pytest.warns(HSNetWarning, match="backbone only"):
        model = load_checkpoint(tmp_path / "weights.pt")
    assert model.name == _NAME
    for key, value in backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[key], value), key
