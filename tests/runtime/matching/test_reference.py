"""The authors' voted mask from an exported model: bundle, ONNX Runtime, chunks and voting together.

The reference inputs are normalised already, so the network is called below `segment`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.places import DATA

from hsnet_trt.runtime.backends import open_runner
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.matching.running import run_features, run_match, run_support
from hsnet_trt.runtime.pictures.postprocess import segment_logits
from hsnet_trt.runtime.pictures.preprocess import place

REFERENCE = DATA / "hsnet_resnet50_128.npz"
SIZE = (128, 128)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxscript")
    from hsnet_trt.export.bundle import export_bundle
    from hsnet_trt.model.recipe import recipe_model

    path = tmp_path_factory.mktemp("reference") / "bundle"
    model, form = recipe_model("resnet50"), {"lowerings": ["packed"], "precisions": ["fp32"]}
    export_bundle(model, path, sizes=(SIZE,), **form)  # what a CPU takes of all forms
    return path


def test_one_and_five_shots_are_the_authors(exported: Path) -> None:
    with np.load(REFERENCE) as data:
        query, images, masks = data["query"], data["support_images"][0], data["support_masks"][0]
        voted, logits = data["mask_kshot"][0], data["logits_1shot"]
    runner, _ = open_runner(Bundle.open(exported), SIZE, "onnxruntime")
    supports = run_support(runner, run_features(runner, images), masks)
    found = run_match(runner, run_features(runner, query), supports)[0]
    runner.close()
    assert found.shape == (5, 2, 32, 32)
    placement = place(SIZE, SIZE, "stretch")
    (five,), _, _ = segment_logits(found, [5], placement)
    (one,), (score,), _ = segment_logits(found[:1], [1], placement)
    assert 0.01 < voted.mean() < 0.99
    np.testing.assert_array_equal(five, voted.astype(bool))
    np.testing.assert_array_equal(one, logits[0].argmax(0) == 1)
    difference = logits[0, 1].astype(np.float64) - logits[0, 0]
    np.testing.assert_allclose(score, 1 / (1 + np.exp(-difference)), atol=1e-5)
