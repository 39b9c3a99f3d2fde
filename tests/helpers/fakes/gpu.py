"""Puts pycuda, cuda-bindings and TensorRT for a GPU that is not there in the places of the real.

Both CUDA libraries are faces of one `cuda.FakeCuda`: shapes, bytes, copies, order and clean-up
are real; what TensorRT and CUDA themselves do is not.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types

import pytest
from helpers.fakes.cuda_bindings import fake_bindings
from helpers.fakes.pycuda import FakeDriver


def install(
    monkeypatch: pytest.MonkeyPatch,
    driver: FakeDriver,
    trt: types.ModuleType,
    *,
    pycuda: bool = True,
    bindings: bool = False,
) -> types.ModuleType | None:
    """Put the fakes where the runtime imports from; gives cuda-bindings' where it is wanted.

    Nothing is compiled for them, whatever this machine has.
    """
    from hsnet_trt.runtime.frames import frame_kernels

    monkeypatch.setattr(frame_kernels, "find_nvcc", lambda: None)
    spec = importlib.machinery.ModuleSpec
    monkeypatch.setitem(sys.modules, trt.__name__, trt)
    monkeypatch.setattr(trt, "__spec__", spec(trt.__name__, None))
    package = types.ModuleType("pycuda")
    package.__spec__ = spec("pycuda", None) if pycuda else None
    monkeypatch.setitem(sys.modules, "pycuda", package if pycuda else None)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver if pycuda else None)  # type: ignore[arg-type]
    if not bindings:
        monkeypatch.setitem(sys.modules, "cuda.bindings", None)  # type: ignore[arg-type]
        return None
    for name in ("cuda", "cuda.bindings"):
        parent = types.ModuleType(name)
        parent.__spec__ = spec(name, None, is_package=True)
        parent.__path__ = []
        monkeypatch.setitem(sys.modules, name, parent)
    module = fake_bindings(driver)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", module)
    return module
