"""Run the correlation kernel on NumPy arrays, with nothing but the CUDA driver.

Without torch or cupy in the process, ``compute-sanitizer`` sees only our kernels and starts fast.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsnet_trt.benchmarks.gpu_check.plugin_cases import Arrays, op_inputs
from hsnet_trt.errors import BackendError
from hsnet_trt.trt_plugins.driver import CorrelationKernels, check_status, cuda_driver
from hsnet_trt.trt_plugins.plan import Plan
from hsnet_trt.trt_plugins.sizes import CorrelationSizes

GUARD = 4096  # bytes behind every tensor that must not be written
POISON = 0xFF  # NaN in FP16 and FP32


class DeviceRunner:
    """The op on the first GPU: ``run`` for arrays, as the reference is called.

    Use it as a context manager; it holds the GPU's primary context.

    Raises:
        BackendError: there is no driver or no GPU.
    """

    def __init__(self, fatbin: Path) -> None:
        self._kernels = CorrelationKernels(fatbin)

    def __enter__(self) -> DeviceRunner:
        driver = cuda_driver()
        check_status(driver.cuInit(0), "cuInit")
        device, context = ctypes.c_int(), ctypes.c_void_p()
        check_status(driver.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
        check_status(
            driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "retaining the context"
        )
        check_status(driver.cuCtxPushCurrent_v2(context), "cuCtxPushCurrent")
        self._device = device
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        driver = cuda_driver()
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
        driver.cuDevicePrimaryCtxRelease_v2(self._device)

    def run(self, query: NDArray[Any], support: NDArray[Any], sizes: CorrelationSizes) -> Arrays:
        """Full and pruned correlation of whole features, like the reference; see ``run_op``."""
        return self.run_op(op_inputs(query, support), sizes)

    def run_op(self, inputs: Arrays, sizes: CorrelationSizes) -> Arrays:
        """Full and pruned correlation of the op's inputs: query, columns, positions, counts.

        Outputs start poisoned, and the guard bytes behind each tensor are checked.

        Raises:
            BackendError: a CUDA call failed, or the kernels wrote beyond the end of a tensor.
        """
        driver = cuda_driver()
        shapes = [array.shape for array in inputs]
        plan = Plan.of(sizes, shapes, inputs[0].itemsize)
        outputs = [np.empty(shape, inputs[0].dtype) for shape in sizes.output_shapes(*shapes)]
        tensors = [*map(np.ascontiguousarray, inputs), *outputs]
        addresses: list[ctypes.c_uint64] = []
        try:
            for tensor in tensors:
                address = ctypes.c_uint64()
                size = ctypes.c_size_t(tensor.nbytes + GUARD)
                check_status(driver.cuMemAlloc_v2(ctypes.byref(address), size), "cuMemAlloc")
                addresses.append(address)
                check_status(
                    driver.cuMemsetD8_v2(address, ctypes.c_ubyte(POISON), size), "cuMemsetD8"
                )
            for address, tensor in zip(addresses[:4], tensors[:4], strict=True):
                check_status(
                    driver.cuMemcpyHtoD_v2(
                        address, ctypes.c_void_p(tensor.ctypes.data), ctypes.c_size_t(tensor.nbytes)
                    ),
                    "cuMemcpyHtoD",
                )
            problem = plan.problem([int(address.value) for address in addresses])
            self._kernels.launch(plan, problem, 0)
            check_status(driver.cuCtxSynchronize(), "the kernels")
            for address, tensor in zip(addresses, tensors, strict=True):
                raw = np.empty(tensor.nbytes + GUARD, np.uint8)
                check_status(
                    driver.cuMemcpyDtoH_v2(
                        ctypes.c_void_p(raw.ctypes.data), address, ctypes.c_size_t(raw.nbytes)
                    ),
                    "cuMemcpyDtoH",
                )
                if not (raw[tensor.nbytes :] == POISON).all():
                    raise BackendError(
                        "the kernels wrote behind the end of a tensor",
                        found=f"a tensor of shape {tensor.shape} with {sizes}",
                        fix="report it",
                    )
                tensor.view(np.uint8).reshape(-1)[:] = raw[: tensor.nbytes]
        finally:
            for address in addresses:
                driver.cuMemFree_v2(address)
        return tensors[4], tensors[5]
