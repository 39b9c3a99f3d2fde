"""Both lowerings compute what the model does, at sizes of every kind."""

import numpy as np
import pytest
import torch
from helpers.graphs.rows import in_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from hsnet_trt.export.graphs.graphs import LOWERINGS, Features, Support
from hsnet_trt.export.graphs.lowering import interpolation
from hsnet_trt.export.graphs.lowering_conv2d import DENSE_LIMIT
from hsnet_trt.export.graphs.probe import Probe, normalise
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.recipe import recipe_model

SIZES = [
    ("resnet18", (64, 64)),  # supports squeezed to 1 x 1
    ("resnet18", (96, 160)),
    ("resnet18", (272, 272)),  # 2 x 2
    ("resnet18", (288, 448)),  # 2 x 2 beside 2 x 2, not square
    ("vgg16", (272, 272)),  # level 4 squeezed to 1 x 1, level 3 to 2 x 2
    ("vgg16", (64, 150)),
]


@pytest.fixture(scope="module")
def models() -> dict[str, HSNet]:
    return {name: recipe_model(name) for name in ("resnet18", "vgg16")}


def encoded(model: HSNet, size: tuple[int, int], queries: int, supports: int):
    probe = Probe.draw(size, model.grids(size), queries, supports, seed=3)
    query = model.features(normalise(probe.queries))
    masks = torch.from_numpy(probe.masks).float()
    return query, model.support(model.features(normalise(probe.supports)), masks)


@torch.no_grad()
@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize(("backbone", "size"), SIZES)
def test_lowering_equals_the_model(models, backbone, size, lowering):
    model = models[backbone]
    query, support = encoded(model, size, queries=2, supports=1)
    expected = model.match(query, support, size)
    found = LOWERINGS[lowering](model, size)(*map(in_rows, (*query, *support)))
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.std())


@torch.no_grad()
@pytest.mark.parametrize("lowering", LOWERINGS)
def test_large_supports_are_not_mixed_densely(lowering, monkeypatch):
    """Above the limit the 3 x 3 convolution stays one; it is tried with a limit of nothing."""
    monkeypatch.setattr("hsnet_trt.export.graphs.lowering_conv2d.DENSE_LIMIT", 0)
    model, size = recipe_model("resnet18"), (288, 320)
    query, support = encoded(model, size, queries=1, supports=2)
    expected = model.match(query, support, size)
    found = LOWERINGS[lowering](model, size)(*map(in_rows, (*query, *support)))
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.std())
    assert DENSE_LIMIT > 4


@torch.no_grad()
def test_half_precision_keeps_float32_where_sums_overflow(models):
    """Features of 300 have a sum of squares beyond float16; the lowering must not see it there."""
    model, size = models["resnet18"], (64, 64)
    query, support = encoded(model, size, queries=1, supports=1)
    levels = [in_rows(level) for level in (*(300 * q for q in query), *support)]
    for lowering in LOWERINGS.values():
        module = lowering(model, size).half()
        found = module(*(level.half() for level in levels))
        expected = lowering(model, size)(*levels)
        assert torch.isfinite(found).all()
        assert float((found.float() - expected).abs().max()) < 0.1 * float(expected.std())


@torch.no_grad()
def test_support_graph_equals_the_model(models):
    model, size = models["resnet18"], (96, 160)
    probe = Probe.draw(size, model.grids(size), 1, 3, seed=1)
    features = model.features(normalise(probe.supports))
    masks = torch.from_numpy(probe.masks).float()
    expected = model.support(features, masks)
    rows = Support(model, size)(*map(in_rows, features), masks)
    for a, b in zip(rows, map(in_rows, expected), strict=True):
        assert a.shape[-1] % 16 == 0
        assert float((a - b).abs().max()) < 1e-5


@torch.no_grad()
def test_positions_outside_the_mask_are_exactly_zero(models):
    """At 400 pixels every seventh position of level 2 falls on a pixel exactly; float32 misses it.

    Row 57 is the first of the object: position 7 of 50 lies on row 57, position 6 before it.
    """
    model, size = models["resnet18"], (400, 400)
    features = tuple(
        in_rows(torch.rand(1, layers, channels, h * w) + 1)
        for layers, channels, (h, w) in zip(
            model.backbone.layers, model.backbone.channels, model.grids(size), strict=True
        )
    )
    mask = torch.zeros(1, 400, 400)
    mask[:, 58:] = 1
    level2 = Support(model, size)(*features, mask)[0]
    assert level2.shape[-1] == 2512
    assert (level2[..., 2500:] == 0).all()
    level2 = level2[..., :2500].unflatten(-1, (50, 50))
    assert (level2[..., :8, :] == 0).all()
    assert (level2[..., 8:, :] > 0).all()


@torch.no_grad()
def test_batch_norms_are_folded_away():
    model = recipe_model("resnet18")
    folded = Features(model)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    image = torch.randn(2, 3, 80, 96)
    for a, b in zip(folded(image), map(in_rows, model.features(image)), strict=True):
        assert float((a - b).abs().max()) < 1e-4
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())


@settings(max_examples=40, deadline=None)
@given(extent=st.integers(2, 500), positions=st.integers(1, 80))
def test_interpolation_matrix_is_bilinear_with_aligned_corners(extent, positions):
    values = np.random.default_rng(extent).random((1, 1, extent, 1))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values), (positions, 1), mode="bilinear", align_corners=True
    )
    matrix = interpolation(extent, positions)
    np.testing.assert_allclose(matrix @ values[0, 0], expected[0, 0].numpy(), atol=1e-9)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
