"""The packed `match` gives what the model gives, whatever the masks leave of the supports."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from helpers.graphs.rows import in_rows

from hsnet_trt.export.graphs.footprint import footprint
from hsnet_trt.export.graphs.graphs import IR_VERSION, OPSET
from hsnet_trt.export.graphs.lowering import Grid
from hsnet_trt.export.graphs.lowering_packed import (
    most_packed,
    packing_of,
    taking_packed,
    write_packed_match,
)
from hsnet_trt.export.graphs.parity import session
from hsnet_trt.export.graphs.probe import Probe, normalise
from hsnet_trt.export.graphs.support_windows import windows_by_shape
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.recipe import recipe_model
from hsnet_trt.runtime.matching.packing import compress, pack

SIZES = [
    ("resnet18", (64, 64)),  # supports squeezed to 1 x 1
    ("resnet18", (96, 160)),
    ("resnet18", (288, 448)),  # 2 x 2 beside 2 x 2, not square
    ("vgg16", (272, 272)),  # level 4 squeezed to 1 x 1, level 3 to 2 x 2
]


@pytest.fixture(scope="module")
def models() -> dict[str, HSNet]:
    return {name: recipe_model(name) for name in ("resnet18", "vgg16")}


def four_masks(probe: Probe) -> np.ndarray:
    """A blob, all, so little that a level may see none of it, and the blob without its middle."""
    blob = probe.masks[0]
    height, width = blob.shape
    small, ring = np.zeros_like(blob), blob.copy()
    small[height // 2 : height // 2 + 9, width // 2 : width // 2 + 9] = True
    ring[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = False
    return np.stack([blob, np.ones_like(blob), small, ring])


@torch.no_grad()
def answers(model: HSNet, size: Grid) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Inputs of `match` for 2 queries and 4 supports, and the model's logits."""
    probe = Probe.draw(size, model.grids(size), 2, 4, seed=3)
    query = model.features(normalise(probe.queries))
    masks = torch.from_numpy(four_masks(probe)).float()
    support = model.support(model.features(normalise(probe.supports)), masks)
    logits = model.match(query, support, size).numpy()
    names = ("f2", "f3", "f4", "s2", "s3", "s4")
    rows = map(in_rows, (*query, *support))
    return {n: t.numpy() for n, t in zip(names, rows, strict=True)}, logits


@pytest.mark.parametrize(("backbone", "size"), SIZES)
def test_packed_equals_the_model(models, backbone, size):
    model = models[backbone]
    inputs, expected = answers(model, size)
    graph = write_packed_match(model, size, OPSET, IR_VERSION)
    onnx.checker.check_model(graph, full_check=True)
    match = taking_packed(session(graph.SerializeToString()), packing_of(model, size))
    found = match(inputs)["logits"]
    assert found.shape == expected.shape
    assert float(np.abs(found - expected).max()) < 1e-4 * float(expected.std())
    # A shot's answer does not depend on what it is matched with.
    one = {n: a[1:] if n[0] == "f" else a[2:3] for n, a in inputs.items()}
    alone = match(one)["logits"]
    assert float(np.abs(alone - expected[1:, 2:3]).max()) < 1e-4 * float(expected.std())


def test_a_support_of_which_nothing_is_left(models):
    """The mask may vanish at every level: the network still answers, as the model does."""
    model, size = models["resnet18"], (96, 160)
    inputs, _ = answers(model, size)
    empty = {n: np.zeros_like(a[:1]) if n[0] == "s" else a for n, a in inputs.items()}
    grids = [h * w for h, w in model.grids(size)]
    levels = [torch.from_numpy(a)[..., :n] for a, n in zip(empty.values(), 2 * grids, strict=True)]
    with torch.no_grad():
        expected = model.match(tuple(levels[:3]), tuple(levels[3:]), size).numpy()
    graph = write_packed_match(model, size, OPSET, IR_VERSION)
    match = taking_packed(session(graph.SerializeToString()), packing_of(model, size))
    assert float(np.abs(match(empty)["logits"] - expected).max()) < 1e-5


def test_large_supports_are_not_mixed_densely(models, monkeypatch):
    """Above the limit the mixing convolutions gather windows; tried with a limit of nothing."""
    monkeypatch.setattr("hsnet_trt.export.graphs.lowering_packed.DENSE_LIMIT", 0)
    model, size = models["resnet18"], (288, 320)
    inputs, expected = answers(model, size)
    graph = write_packed_match(model, size, OPSET, IR_VERSION)
    match = taking_packed(session(graph.SerializeToString()), packing_of(model, size))
    found = match(inputs)["logits"]
    assert float(np.abs(found - expected).max()) < 1e-4 * float(expected.std())


def test_the_footprint_bounds_a_full_mask(models):
    """R and T are as large as they can become when the masks cover everything."""
    model, size = models["resnet18"], (96, 160)
    packing = packing_of(model, size)
    inputs, _ = answers(model, size)
    full = {n: a[[1, 1, 1]] for n, a in inputs.items() if n[0] == "s"}
    packed = pack(compress(full), packing)
    for name, growth in most_packed(packing).items():
        array = packed[("s" if name[0] == "R" else "w") + name[1]]
        assert growth.at(1, 3) == array.shape[1 if name[0] == "R" else 0]
    _, activations = footprint(
        write_packed_match(model, size, OPSET, IR_VERSION), most_packed(packing)
    )
    gathered = 4 * 2 * 25 * 15 * 240  # bytes of level 2's windows: L, k*k, places, Q
    assert activations.at(1, 3) > 3 * gathered
    assert activations.per_pair > gathered


@pytest.mark.parametrize(
    ("support", "kernel", "stride"),
    [((13, 9), 5, 4), ((2, 2), 3, 1), ((1, 1), 5, 4), ((4, 7), 3, 2)],
)
def test_windows_cut_to_the_grid_are_a_convolution(support, kernel, stride):
    rng = np.random.default_rng(0)
    image, weight = rng.normal(size=support), rng.normal(size=(kernel, kernel))
    expected = (
        torch.nn.functional.conv2d(
            torch.from_numpy(image)[None, None],
            torch.from_numpy(weight)[None, None],
            stride=stride,
            padding=kernel // 2,
        )
        .numpy()
        .ravel()
    )
    found = np.full(expected.shape, np.nan)
    for windows in windows_by_shape(support, kernel, stride):
        part = weight[windows.rows][:, windows.columns].ravel()
        found[windows.places] = image.ravel()[windows.sources] @ part
    np.testing.assert_allclose(found, expected, atol=1e-12)
