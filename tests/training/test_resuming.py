"""Runs that were interrupted, killed or ended by time, and go on; folders that are not confused."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.places import ROOT
from helpers.training_runs import Quiet, assert_twins

from hsnet_trt.errors import CheckpointError, InputError
from hsnet_trt.model.checkpoint import load_checkpoint
from hsnet_trt.training import loop
from hsnet_trt.training.loop import train
from hsnet_trt.training.settings import Settings


def test_an_interrupted_run_ends_as_its_twin(small: Settings, tmp_path: Path) -> None:
    """With everything on that draws random numbers; a killed one, plain, is below."""
    settings = dataclasses.replace(
        small, augment=True, both_ways=True, schedule="cosine", reuse=2, workers=1
    )
    train(settings, tmp_path / "whole", bar=Quiet())
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "cut", bar=Quiet(stop_at=4))
    assert torch.load(tmp_path / "cut/last.pt", weights_only=True)["facts"]["progress"]["step"] == 3
    train(settings, tmp_path / "cut", bar=Quiet(), resume=True)
    assert_twins(tmp_path / "whole", tmp_path / "cut")


def test_a_killed_command_ends_as_its_twin(
    small: Settings, tmp_path: Path, blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(small, steps=9, validate_every=3)
    arguments = [
        "train",
        "--data",
        "folder",
        "--root",
        str(blobs),
        "--backbone",
        "resnet18",
        "--train-backbone",
        "--size",
        "64",
        "--batch",
        "2",
        "--steps",
        "9",
        "--validate-every",
        "3",
        "--validation-episodes",
        "4",
        "--workers",
        "0",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "killed"),
    ]
    child = subprocess.Popen(
        [sys.executable, "-m", "hsnet_trt.cli.main", *arguments],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 240
    while not (tmp_path / "killed/last.pt").is_file() and time.monotonic() < deadline:
        assert child.poll() is None
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    trained = train(settings, tmp_path / "killed", bar=Quiet(), resume=True)
    assert trained.steps == 9
    train(settings, tmp_path / "whole", bar=Quiet())
    assert_twins(tmp_path / "whole", tmp_path / "killed")


def test_folders_are_not_confused(small: Settings, tmp_path: Path) -> None:
    settings = dataclasses.replace(small, steps=1, validate_every=1)
    with pytest.raises(InputError, match="no run"):
        train(settings, tmp_path / "run", bar=Quiet(), resume=True)
    train(settings, tmp_path / "run", bar=Quiet())
    with pytest.raises(InputError, match="holds a run already"):
        train(settings, tmp_path / "run", bar=Quiet())
    with pytest.raises(InputError, match="other settings") as caught:
        train(dataclasses.replace(settings, seed=5), tmp_path / "run", bar=Quiet(), resume=True)
    assert "seed 0, now 5" in str(caught.value)
    # A state can be used as weights, too.
    assert load_checkpoint(tmp_path / "run/last.pt").name == "resnet18"
    whole = (tmp_path / "run/last.pt").read_bytes()
    (tmp_path / "run/last.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        train(settings, tmp_path / "run", bar=Quiet(), resume=True)


def test_a_run_of_several_sizes_resumes_as_if_it_had_not_stopped(
    pooled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(pooled, steps=6, validate_every=2)
    train(settings, tmp_path / "whole", bar=Quiet())
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "parts", bar=Quiet(stop_at=4))
    train(settings, tmp_path / "parts", bar=Quiet(), resume=True)
    assert_twins(tmp_path / "whole", tmp_path / "parts")
    means = [torch.load(tmp_path / name / "last.pt", weights_only=True)["average"]
             for name in ("whole", "parts")]  # fmt: skip
    assert means[0] and all(torch.equal(a, b) for a, b in zip(*means, strict=True))


def test_a_budget_of_time_ends_a_run_and_a_second_call_has_the_rest(
    pooled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every look at the clock is a second later than the one before."""
    ticks = itertools.count()
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(ticks)))
    settings = dataclasses.replace(pooled, minutes=0.5, steps=1000, validate_every=500)
    trained = train(settings, tmp_path / "run", bar=Quiet())
    assert 5 < trained.steps < 40 and trained.checkpoint.is_file()
    again = train(settings, tmp_path / "run", bar=Quiet(), resume=True)
    assert again.steps <= trained.steps + 1
