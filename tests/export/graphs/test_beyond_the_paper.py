"""The background contrast and self-support in exported graphs: every lowering, FP16 and INT8."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import onnx
import pytest
import torch
from helpers.graphs.rows import in_rows

from hsnet_trt.calibration.placement import place
from hsnet_trt.export.graphs import graphs
from hsnet_trt.export.graphs.graphs import export_match, export_support
from hsnet_trt.export.graphs.lowering_packed import packing_of, taking_packed
from hsnet_trt.export.graphs.lowering_plugin import taking_columns
from hsnet_trt.export.graphs.parity import session
from hsnet_trt.export.graphs.probe import Probe, normalise
from hsnet_trt.export.precision.emulation import emulated
from hsnet_trt.export.precision.fp16 import to_fp16
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.recipe import recipe_model
from hsnet_trt.trt_plugins.onnx_op import drop_function, inline_function

SIZE = (64, 96)
WEIGHT, OWN = 6.0, 4.0  # of the background contrast, of self-support
FORMS = [("conv2d", "native"), ("conv3d", "native"), ("packed", "native"), ("conv2d", "plugin")]
ADDED = ("node_contrast_", "node_self_support_")
BARE = re.compile("logits_without_(contrast|self_support)")
NAMES = ("f2", "f3", "f4", "s2", "s3", "s4", "c3", "c4")

Arrays = dict[str, np.ndarray]
Exported = Callable[[str, str], onnx.ModelProto]
# PyTorch's exporter takes ten seconds for a `match`, which one worker makes for all of these tests.
pytestmark = pytest.mark.xdist_group("beyond the paper")


@pytest.fixture(scope="module")
def model() -> HSNet:
    return recipe_model("resnet18", WEIGHT, OWN)


@pytest.fixture(scope="module")
@torch.no_grad()
def inputs(model: HSNet) -> Arrays:
    """Two queries, three supports; the last mask has the margins of a letterbox."""
    probe = Probe.draw(SIZE, model.grids(SIZE), 2, 3, seed=3)
    masks = torch.from_numpy(probe.masks).float()
    masks[2, :5] = masks[2, -5:] = -1
    query, shown = (model.features(normalise(i)) for i in (probe.queries, probe.supports))
    *levels, c3, c4 = (*query, *model.support(shown, masks))
    arrays = [t.numpy() for t in (*map(in_rows, levels), c3, c4)]
    rest = {f"shown{i}": in_rows(level).numpy() for i, level in zip((2, 3, 4), shown, strict=True)}
    return {**dict(zip(NAMES, arrays, strict=True)), **rest, "mask": masks.numpy()}


def once_each(model: HSNet) -> Exported:
    """`match` of a model by lowering and correlation; to be read only."""
    return cache(lambda lowering, correlation: export_match(model, SIZE, lowering, {}, correlation))


@pytest.fixture(scope="module")
def match(model: HSNet) -> Exported:
    return once_each(model)


@pytest.fixture(scope="module")
def plain() -> Exported:
    """Of the same weights, without anything that is not in the paper."""
    return once_each(recipe_model("resnet18"))


@pytest.fixture(scope="module")
@torch.no_grad()
def logits(model: HSNet, inputs: Arrays) -> np.ndarray:
    positions = [h * w for h, w in model.grids(SIZE)] * 2 + [1, 1]
    tensors = [
        torch.from_numpy(inputs[name])[..., :count]
        for name, count in zip(NAMES, positions, strict=True)
    ]
    return model.match((tensors[0], tensors[1], tensors[2]), tuple(tensors[3:]), SIZE).numpy()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_match_adds_them(form, match, model, inputs, logits) -> None:
    graph = match(*form)
    run = session((inline_function(graph) if form[1] == "plugin" else graph).SerializeToString())
    if form[1] == "plugin":
        run = taking_columns(run)
    if form[0] == "packed":
        run = taking_packed(run, packing_of(model, SIZE))
    found = run(inputs)["logits"]
    assert float(np.abs(found - logits).max()) < 1e-4 * float(logits.std())


@pytest.mark.parametrize("form", FORMS)
def test_they_come_behind_a_graph_that_does_not_know_of_them(form, match, plain) -> None:
    """Take what was added away, and the authors' graph is left, node for node."""
    bare, full = plain(*form), match(*form)
    added = [node for node in full.graph.node if node.name.startswith(ADDED)]
    assert len(added) == len(full.graph.node) - len(bare.graph.node)
    assert {v.name for v in full.graph.input} - {v.name for v in bare.graph.input} == {"c3", "c4"}
    rest = onnx.ModelProto()
    rest.CopyFrom(full)
    for node in added:
        rest.graph.node.remove(node)
    for kept in (rest.graph.initializer, rest.graph.input):
        for value in [
            v for v in kept if v.name.startswith(("contrast_", "self_support_", "c3", "c4"))
        ]:
            kept.remove(value)
    for node in rest.graph.node:
        node.output[:] = [BARE.sub("logits", name) for name in node.output]
    assert rest.SerializeToString() == bare.SerializeToString()


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS[:2])
def test_self_support_alone(form, model, inputs, plain, monkeypatch) -> None:
    """Without a background contrast `match` takes no vectors; nothing else is left out."""
    alone = recipe_model("resnet18", 0.0, OWN)

    def exported(*_: object) -> onnx.ModelProto:
        """What it comes behind, which is the same for every weight (above)."""
        graph = onnx.ModelProto()
        graph.CopyFrom(plain(*form))
        return graph

    monkeypatch.setattr(graphs, "_as_in_the_paper", exported)
    run = session(export_match(alone, SIZE, *form[:1], {}, form[1]).SerializeToString())
    found = run({name: inputs[name] for name in NAMES[:6]})["logits"]
    levels = [
        torch.from_numpy(inputs[name])[..., : h * w]
        for name, (h, w) in zip(NAMES[:6], model.grids(SIZE) * 2, strict=True)
    ]
    query, support = (levels[0], levels[1], levels[2]), tuple(levels[3:])
    expected = alone.match(query, support, SIZE).numpy()
    bare = recipe_model("resnet18").match(query, support, SIZE).numpy()
    assert float(np.abs(found - expected).max()) < 1e-4 * float(expected.std())
    assert float(np.abs(expected - bare).max()) > 0.1


def test_support_gives_the_vectors(model, inputs) -> None:
    run = session(export_support(model, SIZE, {}).SerializeToString())
    shown = {f"f{i}": inputs[f"shown{i}"] for i in (2, 3, 4)}
    found = run({**shown, "mask": inputs["mask"]})
    assert list(found) == list(NAMES[3:])
    for name, array in found.items():
        np.testing.assert_allclose(array, inputs[name], atol=1e-6)
    whole = run({**shown, "mask": np.ones_like(inputs["mask"])})
    assert np.isfinite(whole["c3"]).all() and np.abs(whole["c3"]).max() < 1e-2


def test_large_features_do_not_overflow_in_fp16(model, inputs, match) -> None:
    """Sums over positions and squares over channels are far above 65504."""
    support = to_fp16(export_support(model, SIZE, {}))
    graph = to_fp16(match("conv2d", "native"))
    large = {
        f"f{i}": 1500 * inputs[f"shown{i}"] / np.abs(inputs[f"shown{i}"]).max() for i in (2, 3, 4)
    }
    mask = {"mask": inputs["mask"]}
    exact = session(export_support(model, SIZE, {}).SerializeToString())({**large, **mask})
    found = session(emulated(support).SerializeToString())({**large, **mask})
    for name in ("c3", "c4"):
        np.testing.assert_allclose(found[name], exact[name], atol=2e-3)
    feed = {**inputs, **{name: 1500 * inputs[name] for name in ("f2", "f3", "f4")}}
    expected = session(match("conv2d", "native").SerializeToString())(feed)["logits"]
    half = session(emulated(graph).SerializeToString())(feed)["logits"]
    assert np.isfinite(half).all()
    assert np.abs(half - expected).max() < 0.1 * expected.std()


@pytest.mark.parametrize("form", FORMS[:3])
def test_int8_leaves_them_float(form, match, plain) -> None:
    graph = match(*form)
    placement = place("match", graph, results=form[0] == "packed")
    quantised = {node for layer in placement.layers for node in layer.nodes}
    assert not any(name.startswith(ADDED) for name in quantised)
    without = place("match", plain(*form), results=form[0] == "packed")
    assert [layer.name for layer in placement.layers] == [layer.name for layer in without.layers]
    assert set(without.left) < set(placement.left)


def test_the_plugin_needs_no_function_for_them(match) -> None:
    bare = drop_function(match("conv2d", "plugin"))
    assert {"c3", "c4"} < {value.name for value in bare.graph.input}
    assert partial(onnx.checker.check_model, full_check=False)(bare) is None
