"""Self-support against float64 NumPy, at its edges, in the network and in a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hsnet_trt.model.checkpoint import load_checkpoint, save_checkpoint, weights_sha256
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.recipe import recipe_model
from hsnet_trt.model.self_support import SelfSupport

GRIDS, PLANE = [(8, 12), (4, 6), (2, 3)], (16, 24)


def resizing(now: int, wanted: int) -> np.ndarray:
    """Bilinear with aligned corners along one axis, row by row: [wanted,now]."""
    matrix = np.zeros((wanted, now))
    for i, at in enumerate(np.linspace(0, now - 1, wanted)):
        low = min(int(at), now - 2)
        matrix[i, low], matrix[i, low + 1] = 1 - (at - low), at - low
    return matrix


def resized(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (resizing(*pair) for pair in zip(plane.shape, size, strict=True))
    return rows @ plane @ columns.T


def expected(logits: np.ndarray, features: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Of one pair and level: logits [2,h,w], features [C,h*w]; position by position."""
    found = resized(1 / (1 + np.exp(logits[0] - logits[1])), grid).ravel()
    means = [
        sum(weight * column for weight, column in zip(weights, features.T, strict=True))
        for weights in (found, 1 - found)
    ]
    cosines = [
        [column @ mean / np.linalg.norm(column) / np.linalg.norm(mean) for mean in means]
        for column in features.T
    ]
    share = min(1, found.sum()) * min(1, (1 - found).sum())
    small = np.array([one - other for one, other in cosines]).reshape(grid)
    return share * resized(small, PLANE)


@torch.no_grad()
@pytest.mark.parametrize("shift", [0.0, -8.0])
def test_it_is_the_contrast_to_what_was_found(shift: float) -> None:
    """With the shift, what was found is less than one position."""
    rng = np.random.default_rng(5)
    logits = 2 * rng.standard_normal((3, 2, *PLANE))
    logits[:, 1] += shift
    features = [rng.standard_normal((3, 2, 7, h * w)) + 0.3 for h, w in GRIDS]
    part = SelfSupport(4.0).double()
    found = part(torch.from_numpy(logits), [torch.from_numpy(level) for level in features], GRIDS)
    for pair in range(3):
        wanted = 2 * sum(
            expected(logits[pair], level[pair, -1], grid)
            for level, grid in zip(features[1:], GRIDS[1:], strict=True)
        )
        np.testing.assert_allclose(found[pair].numpy(), wanted, atol=1e-4)
    assert float(found.std()) > 0.01


def test_what_looks_like_the_found_part_is_found_too() -> None:
    """Two halves of one thing, of which the first answer holds one."""
    features = [torch.zeros(1, 1, 2, h * w) for h, w in GRIDS]
    for level, (h, w) in zip(features, GRIDS, strict=True):  # a thing above, the rest below
        level[..., 0, : h * w // 2], level[..., 1, h * w // 2 :] = 1.0, 1.0
    logits = torch.full((1, 2, *PLANE), 0.0)
    logits[:, 1] = -3.0
    logits[:, 1, :6, :12] = 3.0
    added = SelfSupport(6.0)(logits, features, GRIDS)[0].detach()
    assert float(added[:4, 16:].min()) > 1.0
    assert float(added[-4:].max()) < -1.0


@pytest.mark.parametrize("fill", [-30.0, 30.0])
def test_where_nothing_or_everything_was_found_nothing_is_added(fill: float) -> None:
    features = [torch.randn(1, 2, 8, h * w, requires_grad=True) for h, w in GRIDS]
    logits = torch.zeros(1, 2, *PLANE)
    logits[:, 1] = fill
    logits.requires_grad_()
    found = SelfSupport(3.0)(logits, features, GRIDS)
    assert float(found.detach().abs().max()) < 1e-4
    found.sum().backward()
    for tensor in (*features[1:], logits):
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all()


@torch.no_grad()
def test_it_is_added_to_the_foreground_of_every_pair_after_the_contrast() -> None:
    plain, model = recipe_model("resnet18", 6.0), recipe_model("resnet18", 6.0, 4.0)
    size = (64, 96)
    torch.manual_seed(0)
    query, shown = (plain.features(torch.randn(n, 3, *size)) for n in (2, 3))
    mask = torch.zeros(3, *size)
    mask[:, 16:48, 20:70] = 1
    encoded = plain.support(shown, mask)
    assert all(torch.equal(a, b) for a, b in zip(encoded, model.support(shown, mask), strict=True))
    before, found = plain.match(query, encoded, size), model.match(query, encoded, size)
    assert torch.equal(found[:, :, 0], before[:, :, 0])
    assert model.self_support is not None
    for b in range(2):
        for s in range(3):
            one = [level[b : b + 1] for level in query]
            added = model.self_support(before[b, s][None], one, model.grids(size))[0]
            torch.testing.assert_close(found[b, s, 1], before[b, s, 1] + added)


def test_its_weight_is_learned_and_kept_in_the_checkpoint(tmp_path: Path) -> None:
    model = HSNet("resnet18", self_support=2.5)
    image = torch.randn(1, 3, 64, 64)
    mask = torch.zeros(1, 64, 64)
    mask[:, 10:40, 10:40] = 1
    model.eval()(image, image, mask)[:, 1].square().sum().backward()
    assert model.self_support is not None and float(model.self_support.weight.grad or 0) != 0
    save_checkpoint(model, tmp_path / "model.pt", half=True)
    loaded = load_checkpoint(tmp_path / "model.pt")
    assert loaded.self_support is not None
    assert float(loaded.self_support.weight.detach()) == 2.5
    plain = load_checkpoint(tmp_path / "model.pt", self_support=0)
    assert plain.self_support is None and weights_sha256(plain) != weights_sha256(loaded)
    save_checkpoint(plain, tmp_path / "plain.pt")
    again = load_checkpoint(tmp_path / "plain.pt", self_support=2.5)
    assert weights_sha256(again) == weights_sha256(loaded)
