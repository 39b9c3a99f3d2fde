"""ONNX Runtime on a GPU that is not there, in a machine that has what it needs."""

from __future__ import annotations

import pytest
from helpers.fakes.onnxruntime import FakeOnnxRuntime, Machine, install_onnxruntime

from hsnet_trt.runtime import backends
from hsnet_trt.runtime.ort import cuda as onnxruntime_cuda


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(backends, "find_driver", lambda: machine.driver)
    monkeypatch.setattr(onnxruntime_cuda, "_problem", machine.load)
    monkeypatch.setattr(onnxruntime_cuda, "_folders", lambda: iter(()))
    return machine


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeOnnxRuntime:
    fake = FakeOnnxRuntime()
    install_onnxruntime(monkeypatch, fake)
    return fake
