"""This machine's best rates: products of large matrices, and copies; the roof of rooflines.

`python -m hsnet_trt.benchmarks.limits.rates [cpu|cuda]` prints them as JSON, so that a benchmark
keeps the libraries' threads out of its own process.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from hsnet_trt.errors import BackendError

_SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices; large enough to be compute-bound
_COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}
_SECONDS = 1.5  # per rate


def measure(device: str = "cpu") -> dict[str, float]:
    """Measure in a separate process; see `best`.

    Raises:
        BackendError: that process failed.
    """
    command = [sys.executable, "-m", "hsnet_trt.benchmarks.limits.rates", device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendError(
            "the machine's rates could not be measured", found=done.stderr.strip()[-500:]
        )
    rates: dict[str, float] = json.loads(done.stdout)
    return rates


def best(device: str) -> dict[str, float]:
    """The highest measured rate of each kind.

    Returns:
        `fp32`, `bf16`, `fp16`, `int8` (and `tf32` on CUDA): operations per second, two for each
        multiply-add; `copy`: bytes per second, reads plus writes. Kinds that do not run here are
        left out.
    """
    import torch

    side = _SIDE[device]
    found: dict[str, float] = {}

    def keep(kind: str, per_call: float, call: Callable[[], Any]) -> None:
        try:
            rate = per_call / _fastest(call, torch.cuda.synchronize if device == "cuda" else None)
        except Exception:  # noqa: BLE001  (no such product on this device)
            return
        found[kind] = max(found.get(kind, 0.0), rate)

    products = 2.0 * side**3
    with torch.no_grad():
        for kind, dtype, tf32 in (
            ("fp32", torch.float32, False),
            ("tf32", torch.float32, True),
            ("fp16", torch.float16, False),
            ("bf16", torch.bfloat16, False),
        ):
            if device == "cpu" and kind in ("tf32", "fp16"):
                continue  # CPUs have no TF32, and PyTorch emulates FP16 there
            torch.backends.cuda.matmul.allow_tf32 = tf32
            a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
            out = torch.empty_like(a)
            keep(kind, products, functools.partial(torch.matmul, a, b, out=out))
        if device == "cuda":
            a, b = (torch.ones(side, side, device=device, dtype=torch.int8) for _ in range(2))
            keep("int8", products, lambda: torch._int_mm(a, b))
        else:
            for kind, call in _onnxruntime_products(side).items():
                keep(kind, products, call)
        source = torch.zeros(_COPY_BYTES[device], dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        keep("copy", 2.0 * len(source), lambda: target.copy_(source))
    return found


def _onnxruntime_products(side: int) -> dict[str, Callable[[], Any]]:
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    def product(op: str, left: Any, right: Any, out: int) -> Callable[[], Any]:
        a = np.ones((side, side), left)
        kind = helper.np_dtype_to_tensor_dtype(a.dtype)
        graph = helper.make_graph(
            [helper.make_node(op, ["a", "b"], ["c"])],
            "product",
            [helper.make_tensor_value_info("a", kind, [side, side])],
            [helper.make_tensor_value_info("c", out, [side, side])],
            [numpy_helper.from_array(np.ones((side, side), right), "b")],
        )
        opset = [helper.make_opsetid("", 18)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=10)
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return lambda: session.run(None, {"a": a})

    return {
        "fp32": product("MatMul", np.float32, np.float32, TensorProto.FLOAT),
        "int8": product("MatMulInteger", np.uint8, np.int8, TensorProto.INT32),
    }


def _fastest(call: Callable[[], Any], synchronise: Callable[[], Any] | None) -> float:
    """Seconds of the fastest call: the machine's limit, not its average."""
    call()
    fastest, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < _SECONDS:
        start = time.perf_counter()
        call()
        if synchronise is not None:
            synchronise()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


if __name__ == "__main__":
    print(json.dumps(best(sys.argv[1] if len(sys.argv) > 1 else "cpu")))
