"""Run the correlation kernels on NumPy arrays, with the CUDA driver and nothing else.

Without torch or cupy in the process, ``compute-sanitizer`` sees our kernels only, and soon.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsnet_trt.errors import BackendError
from hsnet_trt.trt_plugins.driver import CorrelationKernels, check_status, cuda_driver
from hsnet_trt.trt_plugins.plan import Plan
from hsnet_trt.trt_plugins.sizes import CorrelationSizes

GUARD = 4096  # bytes behind every tensor that nobody may write
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

    def run(
        self, query: NDArray[Any], support: NDArray[Any], sizes: CorrelationSizes
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return full and pruned. Outputs and workspace start poisoned; guards are looked at.

        Raises:
            BackendError: a CUDA call failed, or something was written behind the end of a tensor.
        """
        driver = cuda_driver()
        shapes = sizes.output_shapes(query.shape, support.shape)
        plan = Plan.of(sizes, query.shape, support.shape, query.itemsize)
        tensors = [
            np.ascontiguousarray(query),
            np.ascontiguousarray(support),
            np.empty(shapes[0], query.dtype),
            np.empty(shapes[1], query.dtype),
            np.empty(plan.workspace_bytes, np.uint8),
        ]
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
            for address, tensor in zip(addresses[:2], tensors[:2], strict=True):
                check_status(
                    driver.cuMemcpyHtoD_v2(
                        address, ctypes.c_void_p(tensor.ctypes.data), ctypes.c_size_t(tensor.nbytes)
                    ),
                    "cuMemcpyHtoD",
                )
            problem = plan.problem(*(int(address.value) for address in addresses))
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
        return tensors[2], tensors[3]
