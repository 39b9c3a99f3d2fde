"""The background contrast against float64 NumPy, at its edges, and in a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hsnet_trt.errors import CheckpointError
from hsnet_trt.model.checkpoint import load_checkpoint, save_checkpoint, weights_sha256
from hsnet_trt.model.contrast import BackgroundContrast
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.recipe import recipe_model

SIZE = (96, 160)
GRIDS = [(12, 20), (6, 10), (3, 5)]


def resized(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear with aligned corners, pixel by pixel."""
    out = np.empty(size)
    for y in range(size[0]):
        for x in range(size[1]):
            v = y * (plane.shape[0] - 1) / max(1, size[0] - 1)
            u = x * (plane.shape[1] - 1) / max(1, size[1] - 1)
            top, left = min(int(v), plane.shape[0] - 2), min(int(u), plane.shape[1] - 2)
            rows = np.array([1 - (v - top), v - top])
            columns = np.array([1 - (u - left), u - left])
            out[y, x] = rows @ plane[top : top + 2, left : left + 2] @ columns
    return out


def expected(
    query: list[np.ndarray], support: list[np.ndarray], mask: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """The mean contrast of one pair from features [L,C,h*w], by loops over positions."""
    total = np.zeros(size)
    for level in (1, 2):
        grid, shown, asked = GRIDS[level], support[level][-1], query[level][-1]
        weights = [resized(side, grid).ravel() for side in (mask == 1, mask == 0)]
        means = [sum(w * column for w, column in zip(ws, shown.T, strict=True)) for ws in weights]
        small = np.array(
            [
                [np.dot(column, m) / np.linalg.norm(column) / np.linalg.norm(m) for m in means]
                for column in asked.T
            ]
        )
        share = min(1, weights[0].sum()) * min(1, weights[1].sum())
        total += share * resized((small[:, 0] - small[:, 1]).reshape(grid), size) / 2
    return total


def features(seed: int, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        rng.standard_normal((count, layers, channels, h * w)) + 0.3
        for layers, channels, (h, w) in zip((2, 3, 2), (4, 7, 9), GRIDS, strict=True)
    ]


def masks() -> np.ndarray:
    """An object; one so small that it is less than a position of level 4; a letterbox."""
    made = np.zeros((3, *SIZE))
    made[0, 20:70, 30:90] = 1
    made[1, 36:48, 68:80] = 1
    made[2, 20:60, 50:130] = 1
    made[2, :15] = made[2, -15:] = -1
    return made


def tensors(arrays: list[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


@torch.no_grad()
def test_it_is_the_difference_of_two_cosines() -> None:
    query, support = features(1, 3), features(2, 3)
    contrast = BackgroundContrast(4.0).double()
    vectors = contrast.support(tensors(support), torch.from_numpy(masks()), GRIDS)
    assert [tuple(v.shape) for v in vectors] == [(3, 1, 7, 1), (3, 1, 9, 1)]
    found = contrast(tensors(query), vectors, GRIDS, (24, 40))
    for pair, mask in enumerate(masks()):
        wanted = 4 * expected([q[pair] for q in query], [s[pair] for s in support], mask, (24, 40))
        np.testing.assert_allclose(found[pair].numpy(), wanted, atol=2e-5)
    assert float(found.std()) > 0.3


def test_the_margins_of_a_letterbox_are_no_background() -> None:
    """What is shown there changes nothing."""
    support = features(3, 3)
    changed = [level.copy() for level in support]
    for level, (h, w) in zip(changed, GRIDS, strict=True):
        level.reshape(*level.shape[:3], h, w)[..., 0, :] = 1e3
    contrast, mask = BackgroundContrast(1.0), torch.from_numpy(masks())[2:]
    one, other = (
        contrast.support([level[2:] for level in tensors(of)], mask, GRIDS)
        for of in (support, changed)
    )
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)
    bare = contrast.support([level[2:] for level in tensors(changed)], mask.clamp(min=0), GRIDS)
    assert float((bare[0] - one[0]).abs().max()) > 0.1


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_where_there_is_no_object_or_no_background_there_is_no_contrast(fill: float) -> None:
    levels = [torch.randn(1, 2, 8, h * w, requires_grad=True) for h, w in GRIDS]
    contrast = BackgroundContrast(3.0)
    vectors = contrast.support(levels, torch.full((1, *SIZE), fill), GRIDS)
    found = contrast(levels, vectors, GRIDS, (24, 40))
    assert float(found.detach().abs().max()) < 1e-2
    found.sum().backward()
    for level in levels[1:]:
        assert level.grad is not None and torch.isfinite(level.grad).all()


@torch.no_grad()
def test_it_is_added_to_the_foreground_of_every_pair() -> None:
    """Two queries against three supports; without it the logits are the same to the bit."""
    plain, model = recipe_model("resnet18"), recipe_model("resnet18", 6.0)
    size = (64, 96)
    torch.manual_seed(0)
    query, shown = (plain.features(torch.randn(n, 3, *size)) for n in (2, 3))
    mask = torch.zeros(3, *size)
    mask[:, 16:48, 20:70] = 1
    bare, full = plain.support(shown, mask), model.support(shown, mask)
    assert len(bare) == 3 and all(torch.equal(a, b) for a, b in zip(bare, full, strict=False))
    without, found = plain.match(query, bare, size), model.match(query, full, size)
    assert torch.equal(found[:, :, 0], without[:, :, 0])
    assert model.contrast is not None
    for b in range(2):
        for s in range(3):
            one = [level[b : b + 1] for level in query]
            vectors = [vector[s : s + 1] for vector in full[3:]]
            added = model.contrast(one, vectors, model.grids(size), (16, 24))[0]
            torch.testing.assert_close(found[b, s, 1], without[b, s, 1] + added)


def test_its_weight_is_learned_and_kept_in_the_checkpoint(tmp_path: Path) -> None:
    model = HSNet("resnet18", contrast=2.5)
    image = torch.randn(1, 3, 64, 64)
    mask = torch.zeros(1, 64, 64)
    mask[:, 10:40, 10:40] = 1
    model.eval()(image, image, mask)[:, 1].sum().backward()
    assert model.contrast is not None and float(model.contrast.weight.grad or 0) != 0
    save_checkpoint(model, tmp_path / "model.pt", half=True)
    loaded = load_checkpoint(tmp_path / "model.pt")
    assert loaded.contrast is not None and float(loaded.contrast.weight.detach()) == 2.5
    assert weights_sha256(loaded) != weights_sha256(
        load_checkpoint(tmp_path / "model.pt", contrast=1)
    )


def test_a_checkpoint_without_it_and_one_of_zero_are_the_authors_network(tmp_path: Path) -> None:
    model = HSNet("resnet18")
    save_checkpoint(model, tmp_path / "model.pt")
    plain = load_checkpoint(tmp_path / "model.pt")
    assert plain.contrast is None and weights_sha256(plain) == weights_sha256(model)
    turned_on = load_checkpoint(tmp_path / "model.pt", contrast=5)
    assert turned_on.contrast is not None and float(turned_on.contrast.weight) == 5
    save_checkpoint(turned_on, tmp_path / "on.pt")
    off = load_checkpoint(tmp_path / "on.pt", contrast=0)
    assert off.contrast is None and weights_sha256(off) == weights_sha256(model)
    state = {**model.state_dict(), "contrast.weight": torch.zeros(())}
    torch.save(state, tmp_path / "zero.pt")
    assert load_checkpoint(tmp_path / "zero.pt").contrast is None


@pytest.mark.parametrize(
    "bad", [torch.tensor(float("nan")), torch.ones(3), torch.ones((), device="meta")]
)
def test_a_weight_that_is_none_is_refused(tmp_path: Path, bad: torch.Tensor) -> None:
    state = {**HSNet("resnet18").state_dict(), "contrast.weight": bad}
    torch.save(state, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="contrast"):
        load_checkpoint(tmp_path / "bad.pt")
