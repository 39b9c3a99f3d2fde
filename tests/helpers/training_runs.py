"""What tests of training share: a quiet progress bar, and what two runs left, compared."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from hsnet_trt.training.batches import Batch, learning_batches
from hsnet_trt.training.settings import Settings


class Quiet:
    def __init__(self, stop_at: int = -1) -> None:
        self.stop_at, self.notes = stop_at, []

    def update(self, step: int, total: int, figures: str) -> None:
        if step == self.stop_at:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)

    def close(self) -> None:
        pass


def state(path: Path) -> dict[str, torch.Tensor]:
    """Weights and the optimizer's memory."""
    kept = torch.load(path, weights_only=True)
    moments = {
        f"{index} {name}": value
        for index, memory in kept["optimizer"]["state"].items()
        for name, value in memory.items()
    }
    return {**kept["state_dict"], **moments}


def assert_twins(one: Path, other: Path) -> None:
    a, b = state(one / "last.pt"), state(other / "last.pt")
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []
    logs = [
        [
            {k: v for k, v in json.loads(line).items() if k != "episodes_per_second"}
            for line in (out / "log.jsonl").read_text().splitlines()
        ]
        for out in (one, other)
    ]
    assert logs[0] == logs[1]


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def batches(settings: Settings, first: int, count: int, workers: int = 0) -> list[Batch]:
    drawn = learning_batches(
        settings.source().open("train"),
        first=first,
        count=count,
        batch=3,
        workers=workers,
        skip_bad=False,
        pin=False,
    )
    return [batch for batch, broken in drawn if not broken]
