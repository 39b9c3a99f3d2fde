"""The network's forms in PyTorch, on the CPU in the GPU's place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from hsnet_trt.benchmarks.forms import device as on_device
from hsnet_trt.benchmarks.forms import parts, whole
from hsnet_trt.benchmarks.forms.device import LOWERINGS, ROW_S, Device
from hsnet_trt.benchmarks.gpu_check.benchmark import table
from hsnet_trt.benchmarks.limits.case import Case
from hsnet_trt.model.recipe import recipe_model

CASE = Case("resnet18", (64, 64))
pytestmark = pytest.mark.xdist_group("benchmark on a device")


def once(call: Any) -> float:
    call()
    return 1.5


def refuses(call: Any) -> float:
    raise RuntimeError("operation not permitted when stream is capturing\nmore")


@pytest.fixture(scope="module")
def device() -> Device:
    return Device(recipe_model("resnet18"), CASE, "cpu", {"plain": once, "graph": refuses})


# FP16 takes ten times as long on a CPU, and BF16 where the processor has none, too.
FORMS = (whole.EAGER, "authors' order, channels-last", *whole.OURS, *whole.CHANGED)
ROWS = [(form, "fp32") for form in FORMS] + [(form, "bf16") for form in FORMS[:3]]


def test_every_form_computes_the_model_and_is_timed(device):
    found = whole.whole_network(device, ROWS)
    assert found["wrong"] == []
    assert [(row["form"], row["precision"]) for row in found["rows"]] == ROWS
    for row in found["rows"]:
        assert "failed" not in row, row
        assert row["ms"] == {
            "plain": 1.5,
            "graph": "not: operation not permitted when stream is capturing",
        }
        assert row["precision"] != "fp32" or row["error"] < 1e-3
    assert json.loads(json.dumps(found)) == found


def test_a_form_that_is_wrong_is_found(device, monkeypatch):
    class Off(LOWERINGS["conv2d"]):
        def forward(self, *levels: torch.Tensor) -> torch.Tensor:
            return super().forward(*levels) * 1.01

    monkeypatch.setitem(LOWERINGS, "conv2d", Off)
    wrong = whole.whole_network(device, ROWS[:6])["wrong"]
    assert wrong and all(text.startswith("ours, conv2d") and "fp32" in text for text in wrong)


def test_a_form_that_fails_leaves_the_others(device, monkeypatch):
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(whole.AuthorsOrder, "match", fails)
    rows = whole.whole_network(device, ROWS[:6])["rows"]
    failed = [row for row in rows if "failed" in row]
    assert failed and all(row["form"].startswith("authors") for row in failed)
    assert len(failed) < len(rows)


def test_blocks_are_timed_on_their_own_inputs(device):
    rows = parts.blocks(device, ("bf16", "fp32"))["rows"]
    conv2d = {row["block"] for row in rows if row["lowering"] == "conv2d"}
    assert {"squeeze2", "squeeze3", "squeeze4", "mix3", "mix2", "decoder"} <= conv2d
    assert {row["precision"] for row in rows} == {"fp32", "bf16"}
    assert {row["layout"] for row in rows if row["lowering"] == "conv3d"} == {"contiguous"}
    assert all(row["ms"]["plain"] == 1.5 for row in rows)


def test_the_kernels_that_take_most_are_named(device):
    found = parts.kernels(device, "ours, conv2d", "fp32", most=5)
    shares = [row["share"] for row in found["rows"]]
    assert len(shares) == 5 and shares == sorted(shares, reverse=True) and sum(shares) <= 1.001
    assert any("conv" in row["kernel"] for row in found["rows"])
    assert found["calls"] > 100 and found["us"] > sum(row["us"] for row in found["rows"]) - 1


def test_a_profiler_that_sees_nothing_is_no_fault(device, monkeypatch):
    class Blind:
        def __init__(self, **_: Any) -> None:
            pass

        def __enter__(self) -> Blind:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def key_averages(self) -> list[Any]:
            return []

    monkeypatch.setattr(torch.profiler, "profile", Blind)
    assert "no kernels" in parts.kernels(device, "ours, conv2d", "fp32")["skipped"]


def test_children_get_what_they_get_in_a_call():
    pair = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    x = torch.ones(1, 2)
    given = parts.inputs_of(pair, ["0", "1"], (x,))
    assert torch.equal(given["0"][0], x) and torch.equal(given["1"][0], pair[0](x))
    assert not pair[0]._forward_pre_hooks


@pytest.fixture
def tf32() -> Iterator[None]:
    """On, as a user may have it, and as it was when the test is over."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_the_reference_is_computed_without_tf32(monkeypatch, tf32):
    """By default cuDNN rounds FP32 convolutions to TF32, and then every FP32 form seems wrong."""
    flags = []
    for name in ("features", "support", "match"):
        true = getattr(on_device.HSNet, name)

        def seen(*given: Any, true: Any = true) -> Any:
            flags.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
            return true(*given)

        monkeypatch.setattr(on_device.HSNet, name, seen)
    Device(recipe_model("resnet18"), CASE, "cpu", {})
    assert len(flags) == 4 and set(flags) == {(False, False)}


def test_tf32_is_on_for_its_rows_alone(device, monkeypatch, tf32):
    flags = {}
    monkeypatch.setattr(
        whole,
        "call_of",
        lambda d, form, dtype: lambda: flags.update({form: torch.backends.cudnn.allow_tf32}) or [],
    )
    whole.whole_network(device, [("a", "tf32"), ("b", "fp32"), ("c", "fp16"), ("d", "bf16")])
    assert flags == {"a": True, "b": False, "c": False, "d": False}


def test_what_is_worth_most_comes_first_and_the_rest_is_left_out_in_time(device, monkeypatch):
    assert whole.FIRST_ROWS[:2] == ((whole.EAGER, "fp32"), (whole.EAGER, "fp16"))
    assert set(whole.FIRST_ROWS[2:]) == {(form, "fp16") for form in whole.OURS}
    left = iter([ROW_S + 1, ROW_S - 1, ROW_S + 1])
    rows = whole.whole_network(
        device, [ROWS[0], ROWS[1], (whole.COMPILED, "fp16")], lambda: next(left)
    )["rows"]
    assert "ms" in rows[0]
    assert [row.get("skipped") for row in rows] == [None, *["no time was left"] * 2]
    assert "no time was left" in table(rows, "form")
    assert parts.blocks(device, ("fp32",), lambda: 0)["skipped"]
