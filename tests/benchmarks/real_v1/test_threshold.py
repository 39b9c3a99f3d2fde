"""The threshold that is chosen for a checkpoint: its own scores', and kept beside its weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from helpers.data_sets.tiny_sets import write_folder

from hsnet_trt.benchmarks.real_v1 import threshold
from hsnet_trt.calibration.presence import threshold_keeping
from hsnet_trt.model.checkpoint import load_checkpoint, save_checkpoint, weights_sha256
from hsnet_trt.model.hsnet import HSNet

pytestmark = pytest.mark.xdist_group("benchmarks")


@pytest.mark.parametrize("contrast", [0.0, 5.0])
def test_it_is_kept_in_the_checkpoint_and_the_card(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    contrast: float,
) -> None:
    torch.manual_seed(0)
    path = tmp_path / "model.pt"
    save_checkpoint(HSNet("resnet18", contrast=contrast), path, size=64, made="here")
    (tmp_path / "model.json").write_text('{"model": "it", "present_from": 0}')
    root = write_folder(tmp_path / "set")
    monkeypatch.setattr(threshold, "gather", lambda folder: root)
    before = weights_sha256(load_checkpoint(path))
    monkeypatch.setattr(sys, "argv", ["threshold", str(path)])
    threshold.main()
    assert load_checkpoint(path).present_from == 0
    monkeypatch.setattr(sys, "argv", ["threshold", str(path), "--keep"])
    threshold.main()
    model = load_checkpoint(path)
    assert 0 < model.present_from <= 1 and model.size == (64, 64)
    assert weights_sha256(model) == before
    assert torch.load(path, weights_only=True)["facts"]["made"] == "here"
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["present_from"]["score"] == model.present_from and card["model"] == "it"
    assert f"present from {model.present_from:.3f}" in capsys.readouterr().out


def test_in_thousandths_it_keeps_as_many() -> None:
    there, absent = [0.2178, 0.5, 0.6], [0.2174, 0.1]
    found = threshold_keeping(there, absent, 1.0)
    kept = threshold.rounded_down(found)
    assert kept.value == 0.217 and round(found.value, 3) == 0.218
    assert (kept.kept, kept.silent) == (1.0, 0.5)
