"""The parts of HSNet against slow, independent arithmetic."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsnet_trt.errors import InputError
from hsnet_trt.model.center_pivot import CenterPivotConv4d
from hsnet_trt.model.correlation import correlate, mask_features, normalize
from hsnet_trt.model.hsnet import BACKBONES, HSNet

small = settings(max_examples=15, deadline=None)


def conv4d(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """A full 4D convolution, position by position: x [C,a,b,c,d], kernel [O,C,k,k,k,k]."""
    k = kernel.shape[-1]
    reach = k // 2
    padded = np.pad(x, [(0, 0)] + [(reach, reach)] * 4)
    extents = x.shape[1:]
    steps = (1, 1, stride, stride)
    out = [range(0, n, s) for n, s in zip(extents, steps, strict=True)]
    result = np.zeros((len(kernel), *(len(r) for r in out)))
    for at in itertools.product(*(range(len(r)) for r in out)):
        corner = [r[i] for r, i in zip(out, at, strict=True)]
        window = padded[(slice(None), *(slice(c, c + k) for c in corner))]
        result[(slice(None), *at)] = np.tensordot(kernel, window, axes=5)
    return result


@small
@given(
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2, 4]),
    grid=st.tuples(*[st.integers(1, 4)] * 4),
    seed=st.integers(0, 9),
)
def test_center_pivot_is_a_4d_convolution_with_a_sparse_kernel(kernel, stride, grid, seed):
    torch.manual_seed(seed)
    conv = CenterPivotConv4d(2, 3, kernel, stride).double()
    x = torch.randn(1, 2, *grid, dtype=torch.float64)
    full = np.zeros((3, 2, *[kernel] * 4))
    centre = kernel // 2
    full[:, :, :, :, centre, centre] += conv.conv1.weight.detach().numpy()
    full[:, :, centre, centre, :, :] += conv.conv2.weight.detach().numpy()
    bias = (conv.conv1.bias + conv.conv2.bias).detach().numpy()
    expected = conv4d(x[0].numpy(), full, stride) + bias[:, None, None, None, None]
    np.testing.assert_allclose(conv(x)[0].detach().numpy(), expected, atol=1e-12)


@small
@given(
    layers=st.integers(1, 3),
    channels=st.integers(1, 9),
    positions=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    seed=st.integers(0, 9),
)
def test_correlation_is_the_clamped_cosine(layers, channels, positions, seed):
    rng = np.random.default_rng(seed)
    query = rng.standard_normal((2, layers, channels, positions[0]))
    support = rng.standard_normal((2, layers, channels, positions[1]))
    support[:, :, :, 0] = 0
    norms = [np.sqrt((x**2).sum(axis=2, keepdims=True)) + 1e-5 for x in (query, support)]
    expected = np.einsum("plcq,plcs->plqs", query / norms[0], support / norms[1]).clip(0)
    found = correlate(torch.from_numpy(query), normalize(torch.from_numpy(support)))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    assert (found[..., 0] == 0).all()


def test_masked_positions_have_a_finite_gradient():
    features = torch.randn(1, 2, 8, 16, requires_grad=True)
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:5, 3:7] = 1
    encoded = normalize(mask_features(features, mask, (4, 4)))
    encoded.sum().backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_voting_over_shots(monkeypatch):
    """Three shots: half of the largest vote is enough, and no vote at all leaves nothing."""
    model = HSNet("resnet18").eval()
    votes = iter([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]])  # of four columns

    def columns(query, support, size):
        foreground = torch.tensor(next(votes)).float().repeat_interleave(size[1] // 4)
        plane = foreground.expand(1, 1, *size) - 0.5
        return torch.cat([-plane, plane], dim=1)

    monkeypatch.setattr(model, "match_pairs", columns)
    query, supports = torch.randn(1, 3, 64, 64), torch.randn(1, 3, 3, 64, 64)
    mask = model.predict(query, supports, torch.ones(1, 3, 64, 64))
    # Votes 3, 2, 1, 0 of at most 3: two thirds stays, one third goes.
    assert mask[0, 0, ::16].tolist() == [1, 1, 0, 0]


@small
@given(
    backbone=st.sampled_from(["resnet18", "vgg16"]),
    size=st.tuples(st.integers(64, 150), st.integers(64, 150)),
)
def test_grids_are_those_of_the_features(backbone, size):
    model = MODELS.setdefault(backbone, HSNet(backbone).eval())
    with torch.no_grad():
        pyramid = model.backbone(torch.zeros(1, 3, *size))
    assert model.grids(size) == [tuple(level[0].shape[2:]) for level in pyramid]
    assert [len(level) for level in pyramid] == list(model.backbone.layers)
    assert [level[0].shape[1] for level in pyramid] == list(model.backbone.channels)


MODELS: dict[str, HSNet] = {}


# VGG-16 from 264 to 280 pixels squeezes level 4 to 1 x 1 and level 3 to 2 x 2.
@pytest.mark.parametrize("size", [(64, 64), (252, 252), (272, 272), (64, 150)])
def test_any_size_from_64_up(size):
    model = HSNet("vgg16").eval()
    query, support = torch.randn(2, 2, 3, *size)
    mask = torch.zeros(2, *size)
    mask[:, 10:40, 20:50] = 1
    with torch.no_grad():
        logits = model(query, support, mask)
    assert logits.shape == (2, 2, *size)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_keys_are_the_authors(backbone):
    keys = set(HSNet(backbone).state_dict())
    first = {
        "vgg16": "backbone.features.0.weight",
        "efficientnet_lite0": "backbone._conv_stem.weight",
        "mobilenet_v2": "backbone.features.0.0.weight",
    }.get(backbone, "backbone.conv1.weight")
    assert {
        first,
        "hpn_learner.encoder_layer4.0.conv1.weight",
        "hpn_learner.encoder_layer2.6.conv2.bias",
        "hpn_learner.encoder_layer3to2.4.weight",
        "hpn_learner.decoder1.2.weight",
        "hpn_learner.decoder2.2.bias",
    } <= keys
    assert {key.split(".")[0] for key in keys} == {"backbone", "hpn_learner"}


@pytest.mark.parametrize(
    ("query", "support", "mask"),
    [
        ((1, 3, 32, 32), (1, 3, 32, 32), (1, 32, 32)),
        ((1, 1, 64, 64), (1, 1, 64, 64), (1, 64, 64)),
        ((1, 3, 64, 64), (2, 3, 64, 64), (2, 64, 64)),
        ((1, 3, 64, 64), (1, 3, 64, 64), (1, 32, 32)),
    ],
)
def test_wrong_shapes_are_refused(query, support, mask):
    model = HSNet("resnet18")
    with pytest.raises(InputError) as error:
        model(torch.zeros(query), torch.zeros(support), torch.zeros(mask))
    assert error.value.expected and error.value.found


@pytest.mark.parametrize(
    ("query", "supports", "masks"),
    [
        ((1, 3, 64, 96), (1, 1, 3, 96, 64), (1, 1, 96, 64)),
        ((1, 3, 64, 64), (2, 1, 3, 64, 64), (2, 1, 64, 64)),
        ((2, 3, 64, 64), (1, 1, 3, 64, 64), (1, 1, 64, 64)),
        ((1, 3, 64, 64), (1, 0, 3, 64, 64), (1, 0, 64, 64)),
        ((3, 64, 64), (1, 1, 3, 64, 64), (1, 1, 64, 64)),
    ],
)
def test_wrong_shots_are_refused(query, supports, masks):
    model = HSNet("resnet18")
    with pytest.raises(InputError, match="belong together") as error:
        model.predict(torch.zeros(query), torch.zeros(supports), torch.zeros(masks))
    assert error.value.expected and error.value.found


def test_unknown_backbone_is_refused():
    with pytest.raises(InputError, match="resnet34"):
        HSNet("resnet34")
