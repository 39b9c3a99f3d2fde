"""HSNet against the outputs of the authors' code, on every file there is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.references import FILES, case, load

from hsnet_trt.model.correlation import correlate
from hsnet_trt.model.recipe import recipe_model


def test_all_reference_files_are_here():
    assert len(FILES) == 7


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_logits_and_voted_mask(path: Path):
    reference = load(path)
    model = recipe_model(reference.backbone)
    with torch.no_grad():
        logits = model(reference.query, reference.supports[:, 0], reference.masks[:, 0])
    mask = model.predict(reference.query, reference.supports, reference.masks)
    np.testing.assert_allclose(logits.numpy(), reference.arrays["logits_1shot"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(mask.numpy(), reference.arrays["mask_kshot"])


@pytest.mark.parametrize("name", ["resnet50_128", "resnet101_128", "vgg16_128"])
def test_float64_logits(name: str):
    reference = case(name)
    model = recipe_model(reference.backbone).double()
    with torch.no_grad():
        logits = model(
            reference.query.double(), reference.supports[:, 0].double(), reference.masks[:, 0]
        )
    expected = reference.arrays["logits_1shot_float64"]
    np.testing.assert_allclose(logits.numpy(), expected, rtol=0, atol=1e-9)


def test_correlations():
    reference = case("resnet50_128")
    model = recipe_model("resnet50")
    with torch.no_grad():
        query = model.features(reference.query)
        support = model.support(model.features(reference.supports[:, 0]), reference.masks[:, 0])
        found = [correlate(q, s) for q, s in zip(query, support, strict=True)]
    for level, values in zip((2, 3, 4), found, strict=True):
        expected = reference.arrays[f"correlation_l{level}"]
        np.testing.assert_allclose(
            values.numpy().reshape(expected.shape), expected, rtol=0, atol=1e-5
        )


def test_match_is_every_query_against_every_support():
    reference = case("resnet50_128")
    model = recipe_model("resnet50")
    supports, masks = reference.supports[0, :3], reference.masks[0, :3]
    queries = torch.cat([reference.query, reference.supports[0, 3:4]])
    with torch.no_grad():
        encoded = model.support(model.features(supports), masks)
        found = model.match(model.features(queries), encoded, reference.size)
        for b in range(2):
            for s in range(3):
                whole = model(queries[b : b + 1], supports[s : s + 1], masks[s : s + 1])
                small = torch.nn.functional.interpolate(
                    found[b : b + 1, s], reference.size, mode="bilinear", align_corners=True
                )
                np.testing.assert_allclose(small.numpy(), whole.numpy(), rtol=0, atol=1e-5)


def test_nothing_is_kept_between_sizes():
    small, large = case("resnet50_128"), case("resnet50_288x416")
    model = recipe_model("resnet50")
    for reference in (small, large, small):
        with torch.no_grad():
            logits = model(reference.query, reference.supports[:, 0], reference.masks[:, 0])
        expected = reference.arrays["logits_1shot"]
        np.testing.assert_allclose(logits.numpy(), expected, rtol=0, atol=1e-5)
