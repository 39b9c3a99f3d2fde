"""The networks as other models of a server, against a server that is made up: a GPU's tensors."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from helpers.fakes.triton import FLOATS, HALF_FEATURES, HALVES, INDICES, Server, Tensor

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.matching.presence import Objects, best_matches, objects_in
from hsnet_trt.serving.triton_server import networks as triton_networks
from hsnet_trt.serving.triton_server.model import check_numpy
from hsnet_trt.serving.triton_server.networks import Networks, Shots


async def run(networks: Networks) -> np.ndarray:
    images, masks = np.zeros((3, 3, 8, 8), np.float32), np.ones((3, 8, 8), np.float32)
    pieces = [(await networks.encode(images[first:], masks[first:]))[0] for first in (0, 1)]
    features = await networks.features(images[:1])
    return await networks.match(features, Shots(tuple(pieces)))


@pytest.mark.parametrize("types", [FLOATS, HALVES, HALF_FEATURES])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_types_fit_and_a_gpus_tensors_stay_there(types, on_gpu):
    server = Server(types, on_gpu)
    logits = asyncio.run(run(Networks(server, "hsnet", 7, types)))
    assert logits.shape == (5, 2, 2, 2) and logits.dtype == np.float32
    assert {(name, version) for name, version, _ in server.calls} == {
        (f"hsnet_{graph}", 7) for graph in FLOATS
    }
    matched = [given for name, _, given in server.calls if name == "hsnet_match"]
    stays = on_gpu and types is not HALF_FEATURES
    assert [given["s2"].is_cpu() for given in matched] == [not stays] * 2


def test_the_plugins_supports_are_arranged_once_on_the_cpu():
    """Also where the models give a GPU's tensors; a query's features still stay there."""
    types = {**HALVES, "match": {**HALVES["match"], **INDICES}}
    server = Server(types, on_gpu=True)
    networks = Networks(server, "hsnet", 7, types)

    async def answer() -> np.ndarray:
        images, masks = np.zeros((3, 3, 8, 8), np.float32), np.ones((3, 8, 8), np.float32)
        supports = networks.arrange([(await networks.encode(images, masks))[0]], most=2)
        assert [len(piece["n2"]) for piece in supports.pieces] == [2, 1]
        features = await networks.features(images[:1])
        return await networks.match(features, supports)

    assert asyncio.run(answer()).shape == (3, 2, 2, 2)
    matched = [given for name, _, given in server.calls if name == "hsnet_match"]
    assert [given["f2"].is_cpu() for given in matched] == [False] * 2
    for given in matched:
        assert given["a2"].array.tolist() == [[0, 1, 2]] * len(given["n2"].array)
        assert set(given["n2"].array) == {3}


@pytest.mark.parametrize("columns", [False, True])
def test_supports_are_kept_in_the_types_that_match_takes(columns):
    """No request converts them, or copies them."""
    types = {**FLOATS, "match": {**HALVES["match"], **(INDICES if columns else {})}}
    server = Server(types, on_gpu=False)
    networks = Networks(server, "hsnet", 7, types)

    async def answer() -> Shots:
        images, masks = np.zeros((3, 3, 8, 8), np.float32), np.ones((3, 8, 8), np.float32)
        supports = networks.arrange([(await networks.encode(images, masks))[0]], most=3)
        await networks.match(await networks.features(images[:1]), supports)
        return supports

    (piece,) = asyncio.run(answer()).pieces
    assert {name: array.dtype for name, array in piece.items()} == {
        name: types["match"][name] for name in piece
    }
    given = server.calls[-1][2]
    assert all(given[name].array is array for name, array in piece.items())


@pytest.mark.parametrize("types", [FLOATS, HALVES, HALF_FEATURES])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_what_presence_needs_comes_to_the_cpu(types, on_gpu):
    """Of a GPU's tensors by way of `support`: directions are all that matters to a cosine."""
    rng = np.random.default_rng(0)
    server = Server(types, on_gpu)
    s4 = rng.standard_normal((2, 3, 5, 6))
    s4[:, :, :, ::2] = 0
    f4 = rng.standard_normal((1, 3, 5, 6))
    server.values = {"features": {"f4": f4}, "support": {"s4": s4}}
    networks = Networks(server, "hsnet", 1, types)

    async def answer() -> tuple[Objects, np.ndarray]:
        images, masks = np.zeros((2, 3, 8, 8), np.float32), np.ones((2, 8, 8), np.float32)
        kept, objects = await networks.encode(images, masks)
        stays = on_gpu and types is not HALF_FEATURES
        assert isinstance(kept["s4"], Tensor if stays else np.ndarray)
        server.values["support"] = {"s4": f4 / np.linalg.norm(f4, axis=2, keepdims=True)}
        return objects, await networks.level4(await networks.features(images[:1]), (8, 8))

    objects, level4 = asyncio.run(answer())
    expected = objects_in({"s4": s4.astype(types["support"]["s4"])})
    np.testing.assert_array_equal(objects.counts, [3, 3])
    np.testing.assert_array_equal(objects.vectors, expected.vectors)
    found = best_matches(level4, objects.vectors)
    np.testing.assert_allclose(found, best_matches(f4[0, -1], objects.vectors), atol=3e-3)
    last = server.calls[-1][2]
    if on_gpu and types is not HALF_FEATURES:
        assert last["mask"].array.shape == (1, 8, 8) and last["mask"].array.all()
        assert not last["f4"].is_cpu()


def test_a_models_failure_and_impossible_logits():
    server = Server(FLOATS, False, logit=np.inf)
    networks = Networks(server, "hsnet", 1, FLOATS)
    with pytest.raises(BackendError, match="not finite"):
        asyncio.run(run(networks))
    server.failure = "out of memory"
    with pytest.raises(BackendError, match="hsnet_features failed") as caught:
        asyncio.run(run(networks))
    assert "out of memory" in str(caught.value)


def test_a_model_that_is_still_being_loaded(monkeypatch):
    server = Server(FLOATS, False)
    server.loading = 2
    assert asyncio.run(run(Networks(server, "hsnet", 1, FLOATS))).shape == (5, 2, 2, 2)
    monkeypatch.setattr(triton_networks, "_LOADING_SECONDS", 0.3)
    server.loading = 100
    with pytest.raises(BackendError, match="failed") as caught:
        asyncio.run(run(Networks(server, "hsnet", 1, FLOATS)))
    assert "not ready" in str(caught.value)


def test_a_backend_that_cannot_pass_arrays_is_told_from_one_that_can():
    class Scalar(Tensor):
        def as_numpy(self) -> np.ndarray:
            return self.array[0]  # what 24.10 makes of an array of NumPy 2

    check_numpy(Server(FLOATS, False))
    broken = Server(FLOATS, False)
    broken.Tensor = Scalar
    with pytest.raises(BackendError, match="cannot pass arrays"):
        check_numpy(broken)
