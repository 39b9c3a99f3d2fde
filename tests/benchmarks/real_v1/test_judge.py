"""The judge's table says what the judgements beside it say, and is not made of older ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from helpers.data_sets.tiny_sets import write_folder

from hsnet_trt.benchmarks.real_v1 import judge as judging
from hsnet_trt.errors import InputError
from hsnet_trt.model.checkpoint import save_checkpoint
from hsnet_trt.model.hsnet import HSNet

pytestmark = pytest.mark.xdist_group("benchmarks")


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.manual_seed(0)
    save_checkpoint(HSNet("resnet18"), tmp_path / "model.pt")
    root = write_folder(tmp_path / "set")
    monkeypatch.setattr(judging, "gather", lambda folder: root)
    return tmp_path / "model.pt"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["judge", *map(str, arguments)])
    judging.main()


def test_three_figures_in_one_table_in_parts(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(monkeypatch, checkpoint, "--out", out, "--size", 64, "--form", "clean")
    assert "absent" not in (out / "table.md").read_text()
    kept = (out / "clean/accuracy.json").stat().st_mtime_ns
    run(monkeypatch, checkpoint, "--out", out, "--size", 64)
    assert (out / "clean/accuracy.json").stat().st_mtime_ns == kept
    lines = (out / "table.md").read_text().splitlines()
    first = [line.split(" | ")[0].strip("| ") for line in lines if line.startswith("|")]
    assert first == [
        "form", "---|---|---|---|---|---", "clean", "mosaic", "something is found", "---|---",
        "where the class is absent", "where it is present (clean)",
    ]  # fmt: skip
    queries = [int(line.split(" | ")[1]) for line in lines if line.startswith(("| clean", "| mos"))]
    assert queries == [8, 8]


def test_other_weights_are_judged_anew(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(monkeypatch, checkpoint, "--out", out, "--size", 64, "--form", "clean")
    before = (out / "clean/accuracy.json").read_text()
    torch.manual_seed(1)
    save_checkpoint(HSNet("resnet18"), checkpoint)
    run(monkeypatch, checkpoint, "--out", out, "--size", 64, "--form", "clean")
    assert (out / "clean/accuracy.json").read_text() != before


def test_a_table_is_of_one_model(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    both = ("--form", "clean", "--form", "absent")
    run(monkeypatch, checkpoint, "--out", out, "--size", 64, *both)
    assert "where the class is absent" in (out / "table.md").read_text()
    torch.manual_seed(1)
    save_checkpoint(HSNet("resnet18"), checkpoint)
    run(monkeypatch, checkpoint, "--out", out, "--size", 64, "--form", "clean")
    text = (out / "table.md").read_text()
    assert "| clean | 8 |" in text and "where the class is absent" not in text


def test_nothing_judged_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing is judged"):
        judging.table(tmp_path, [])
