"""The Python plugin as TensorRT's own bindings call it (`python/src/infer/pyPlugin.cpp`)."""

from __future__ import annotations

import ctypes
import gc
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hsnet_trt.errors import BackendError
from hsnet_trt.trt_plugins import driver, python_plugin
from hsnet_trt.trt_plugins.plan import Launch, Problem
from hsnet_trt.trt_plugins.sizes import CorrelationSizes

SIZES = CorrelationSizes(7, 5, 9, 6, 2)
SHAPES = [(1, 2, 16, 48), (1, 2, 16, 64), (1, 64), (1,)]


class Field:
    """A `PluginField` keeps the array that it was made of, and points into it."""

    def __init__(self, name: str, array: np.ndarray, kind: str) -> None:
        self.name, self.data, self.kind = name, array, kind


class Copied:
    """What is in a collection: the pointers, and nothing that keeps them valid."""

    def __init__(self, field: Field) -> None:
        self.name, self.array = field.name, weakref.ref(field.data)


def fake_tensorrt(name: str) -> Any:
    def base(title: str) -> type:
        return type(title, (), {})

    registered: list[Any] = []

    def register_creator(creator: Any, namespace: str) -> bool:
        registered.append(creator)
        return True

    bases = ("IPluginV3", "IPluginV3OneCore", "IPluginV3OneBuild", "IPluginV3OneRuntime")
    return SimpleNamespace(
        __name__=name,
        __version__="10.3",
        **{title: base(title) for title in (*bases, "IPluginCreatorV3One")},
        DataType=SimpleNamespace(HALF="half", FLOAT="float", INT32="int32"),
        PluginFieldType=SimpleNamespace(INT32="int32"),
        PluginField=Field,
        PluginFieldCollection=lambda fields: [Copied(field) for field in fields],
        get_plugin_registry=lambda: SimpleNamespace(register_creator=register_creator),
        registered=registered,
    )


@pytest.fixture
def plugin(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    trt = fake_tensorrt(request.node.name)
    python_plugin.register(trt, tmp_path / "missing.fatbin")
    fields = [Field(n, np.array([v], np.int32), "int32") for n, v in SIZES.attributes().items()]
    return trt.registered[0].create_plugin("", fields, None)


def test_what_an_engine_keeps_of_the_op_outlives_the_call_that_gives_it(plugin: Any) -> None:
    """TensorRT copies pointers and reads what they point to later: it wrote what came after."""
    fields = plugin.get_fields_to_serialize()
    gc.collect()
    arrays = {field.name: field.array() for field in fields}
    assert {name: None if a is None else int(a[0]) for name, a in arrays.items()} == (
        SIZES.attributes()
    )


def test_an_op_that_cannot_run_raises(plugin: Any) -> None:
    """The bindings drop what `enqueue` returns and answer with an error only if it raises."""
    descriptions = [SimpleNamespace(type="half", dims=shape) for shape in SHAPES]
    with pytest.raises(BackendError, match="cannot be read"):
        plugin.enqueue(descriptions, [], [0, 0, 0, 0], [0, 0], 0, 0)


class Driver:
    """CUDA's driver with one context, which can be reset: then its modules are gone."""

    def __init__(self) -> None:
        self.context, self.modules, self.launched = 1, 0, []

    def cuCtxGetCurrent(self, context: Any) -> int:
        context._obj.value = 0x1000
        return 0

    def cuCtxGetId(self, context: Any, number: Any) -> int:
        number._obj.value = self.context
        return 0

    def cuModuleLoadData(self, module: Any, image: Any) -> int:
        self.modules += 1
        module._obj.value = self.modules
        return 0

    def cuModuleGetFunction(self, function: Any, module: Any, name: bytes) -> int:
        function._obj.value = module.value
        return 0

    def cuCtxGetDevice(self, device: Any) -> int:
        return 0

    def cuDeviceGetAttribute(self, count: Any, attribute: int, device: Any) -> int:
        count._obj.value = 84
        return 0

    def cuLaunchKernel(self, function: ctypes.c_void_p, *arguments: Any) -> int:
        self.launched.append(function.value)
        return 0


@pytest.mark.parametrize("numbered", [True, False])
def test_kernels_are_loaded_anew_after_the_context_was_reset(
    numbered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Driver()
    if not numbered:  # a driver before CUDA 12 tells contexts by their address alone
        monkeypatch.delattr(Driver, "cuCtxGetId")
    monkeypatch.setattr(driver, "cuda_driver", lambda: fake)
    kernels = driver.CorrelationKernels(b"kernels")
    launch, problem = Launch("hsnet_correlate_small_f16", (1, 1, 1), 128), Problem()
    for _ in range(2):
        kernels.start(launch, problem, 0)
    fake.context = 2
    kernels.start(launch, problem, 0)
    assert problem.multiprocessors == 84
    assert fake.launched == ([1, 1, 2] if numbered else [1, 1, 1])
