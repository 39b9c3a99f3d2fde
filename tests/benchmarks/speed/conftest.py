"""Contenders that take no time, by their plans."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.fakes.race import FakeWorker

from hsnet_trt.benchmarks.speed import race as speed
from hsnet_trt.benchmarks.speed.contenders import BASELINE


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    monkeypatch.setattr(speed, "RemoteWorker", FakeWorker)
    monkeypatch.setattr(speed, "_SETTLE_S", 0)
    monkeypatch.setattr(speed, "draw_inputs", lambda case, grids: None)
    for name in ("plans", "order", "closed"):
        monkeypatch.setattr(FakeWorker, name, type(getattr(FakeWorker, name))())
    FakeWorker.plans |= {
        BASELINE: {"episode": 600, "stream": -1},
        "ONNX Runtime": {"episode": 300, "stream": 120},
    }
    return FakeWorker.plans
