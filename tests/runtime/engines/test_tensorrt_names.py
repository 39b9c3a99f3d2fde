"""Every name of TensorRT that is used exists in the real one."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from hsnet_trt.runtime.device import kernel_cache
from hsnet_trt.runtime.engines import engine, logger
from hsnet_trt.runtime.engines import runner as tensorrt_runner

# What expressions of each file are, so that their attributes can be looked up; "" is the module.
KINDS = {
    tensorrt_runner: {"trt": "", "self._runtime": "Runtime"},
    logger: {"trt": ""},
    engine: {
        "trt": "",
        "self._trt": "",
        "engine": "ICudaEngine",
        "self._engine": "ICudaEngine",
        "self._execution": "IExecutionContext",
        "config": "IRuntimeConfig",
    },
    kernel_cache: {"config": "IRuntimeConfig", "cache": "IRuntimeCache"},
}


def test_every_name_it_uses_exists_in_tensorrt() -> None:
    """The real classes of TensorRT for RTX, by walking the runner's own source."""
    trt = pytest.importorskip("tensorrt_rtx")
    used, missing = set(), []
    for module, kinds in KINDS.items():
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
            if not isinstance(node, ast.Attribute):
                continue
            owner, _, rest = ast.unparse(node).rpartition(".")
            base = owner
            while base and base not in kinds:
                base, _, last = base.rpartition(".")
                rest = f"{last}.{rest}" if base else rest
            if base not in kinds:
                continue
            thing = getattr(trt, kinds[base]) if kinds[base] else trt
            used.add(f"{kinds[base] or 'trt'}.{rest}")
            for name in rest.split("."):
                if not hasattr(thing, name):
                    missing.append(ast.unparse(node))
                    break
                thing = getattr(thing, name)
    assert not missing
    assert {
        "trt.Runtime",
        "trt.ILogger.Severity.ERROR",
        "trt.nptype",
        "trt.ExecutionContextAllocationStrategy.USER_MANAGED",
        "trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE",
        "Runtime.deserialize_cuda_engine",
        "ICudaEngine.create_execution_context",
        "ICudaEngine.create_runtime_config",
        "ICudaEngine.device_memory_size_v2",
        "ICudaEngine.get_tensor_profile_shape",
        "ICudaEngine.num_io_tensors",
        "IExecutionContext.set_device_memory",
        "IExecutionContext.set_input_shape",
        "IExecutionContext.set_tensor_address",
        "IExecutionContext.infer_shapes",
        "IExecutionContext.get_tensor_shape",
        "IExecutionContext.execute_async_v3",
        "IRuntimeConfig.create_runtime_cache",
        "IRuntimeConfig.cuda_graph_strategy",
        "IRuntimeConfig.set_execution_context_allocation_strategy",
        "IRuntimeConfig.set_runtime_cache",
        "IRuntimeCache.deserialize",
        "IRuntimeCache.serialize",
    } <= used


def test_tensorrts_types_are_numpys() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    assert trt.nptype(trt.float32) is np.float32
    assert trt.nptype(trt.float16) is np.float16
