"""Changes to the lowerings: the same results, and what each is to bring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hsnet_trt.benchmarks.forms import changes, parts
from hsnet_trt.benchmarks.forms.device import LOWERINGS, Device
from hsnet_trt.benchmarks.limits.case import Case
from hsnet_trt.export.graphs.lowering import GroupNormRelu, padded
from hsnet_trt.model.recipe import recipe_model

SIZE = (128, 96)  # query grids of 16 x 12, 8 x 6, 4 x 3
pytestmark = pytest.mark.xdist_group("benchmark on a device")


@pytest.fixture(scope="module")
def device() -> Device:
    return Device(recipe_model("resnet50"), Case("resnet50", SIZE), "cpu", {"plain": once})


def once(call: Callable[[], Any]) -> float:
    call()
    return 1.5


def changed(device: Device, lowering: str, *names: str) -> torch.nn.Module:
    match = LOWERINGS[lowering](device.model, SIZE).eval()
    for name in names:
        changes.CHANGES[name](match)
    return match


def logits(device: Device, match: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return match(*map(padded, (*device.features, *device.encoded)))


def convolutions(match: torch.nn.Module) -> list[torch.nn.Module]:
    return [m for m in match.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Conv3d)]


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("names", [*[(name,) for name in changes.CHANGES], tuple(changes.CHANGES)])
def test_what_is_computed_stays(device: Device, lowering: str, names: tuple[str, ...]) -> None:
    found = logits(device, changed(device, lowering, *names))
    expected = device.logits
    assert (found - expected).abs().max() < 1e-4 * expected.std()


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_no_convolution_is_left_with_channels_that_tensor_cores_do_not_take(
    device: Device, lowering: str
) -> None:
    before = [c.in_channels % changes.UNIT for c in convolutions(changed(device, lowering))]
    assert sum(map(bool, before)) == 6  # 4, 6 and 3 layers of the levels, both ways
    after = convolutions(changed(device, lowering, "8 channels"))
    assert not any(c.in_channels % changes.UNIT for c in after) and len(after) == len(before)
    assert not any(
        isinstance(m, GroupNormRelu) for m in changed(device, lowering, "fused norms").modules()
    )


def test_channels_stay_last_behind_the_first_layers(device: Device) -> None:
    """On a CPU only pictures by twos go through the library that keeps the layout."""
    match, seen = changed(device, "conv3d", "channels-last throughout"), []

    def look(conv: torch.nn.Conv3d, given: tuple[torch.Tensor]) -> None:
        last = given[0].is_contiguous(memory_format=torch.channels_last_3d)
        seen.append((conv.in_channels, last))

    for conv in convolutions(match):
        if isinstance(conv, torch.nn.Conv3d) and conv.kernel_size[0] == 1:
            conv.register_forward_pre_hook(look)
    two = [level.repeat(2, 1, 1, 1) for level in map(padded, device.features)]
    with torch.no_grad():
        match(*two, *map(padded, device.encoded))
    assert len(seen) == 15 and all(last for channels, last in seen if channels > 8), seen


def test_equal_layers_are_found_and_computed_together(device: Device) -> None:
    match = LOWERINGS["conv3d"](device.model, SIZE).eval()
    names = changes.equal_layers(match)
    assert names == [
        ["squeeze3.convs.1", "squeeze4.convs.1"],
        ["squeeze2.convs.2", "squeeze3.convs.2", "squeeze4.convs.2"],
    ]
    found = parts.equal_layers(device, ("fp32", "bf16"))
    assert found["wrong"] == [] and len(found["rows"]) == 2 * len(names) * 2
    for row in found["rows"]:
        assert row["ms"] == {"plain": 1.5} and (row["precision"] == "bf16" or row["error"] < 1e-5)
    assert {row["form"] for row in found["rows"]} == {"apart", "together"}
    assert "no time" in parts.equal_layers(device, ("fp32",), lambda: 0)["skipped"]


def test_together_that_is_not_the_same_is_found(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Off(changes.Together):
        def forward(self, *given: torch.Tensor) -> list[torch.Tensor]:
            return [x * 1.01 for x in super().forward(*given)]

    monkeypatch.setattr(parts.changes, "Together", Off)
    wrong = parts.equal_layers(device, ("fp32",))["wrong"]
    assert len(wrong) == 2 and all(text.startswith("off ") for text in wrong)
