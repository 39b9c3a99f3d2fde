"""Checks of the runtime's GPU memory: copies, mapped memory, threads, refused allocations."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.device.driver_types import OutOfGpuMemory


def check_memory(cuda: Cuda) -> dict[str, Any]:
    """Check copies, page-locked and mapped memory, threads, and an impossible allocation."""
    wrong: list[str] = []
    data = np.random.default_rng(0).integers(0, 256, 5_000_001, dtype=np.uint8)
    with cuda.current():
        stream = cuda.stream()
        address = cuda.allocate(data.nbytes)
        host = cuda.allocate_host(data.nbytes, mapped=False)
        host.array[: data.size] = data
        cuda.upload(address, host.array[: data.size], stream)
        back = np.empty_like(data)
        cuda.download(back, address, stream)
        cuda.synchronise(stream)
        if not np.array_equal(back, data):
            wrong.append("a copy up and down changed the data")
        cuda.zero(address, 1000, stream)
        cuda.download(back, address, stream)
        cuda.synchronise(stream)
        if back[:1000].any() or not np.array_equal(back[1000:], data[1000:]):
            wrong.append("zero did not fill what it should")
        if cuda.facts.maps_host_memory:
            mapped = cuda.allocate_host(4096, mapped=True)
            mapped.array[:4096] = data[:4096]
            cuda.download(back[:4096], mapped.device_address or 0, stream)
            cuda.synchronise(stream)
            if not np.array_equal(back[:4096], data[:4096]):
                wrong.append("the device does not see mapped memory")
            cuda.free_host(mapped)
        before = cuda.memory_info()[0]
        try:
            cuda.allocate(1 << 46)
            wrong.append("64 TB were allocated")
        except OutOfGpuMemory:
            pass
        if cuda.memory_info()[0] != before:
            wrong.append("a refused allocation took memory")

    def elsewhere() -> None:
        try:
            with cuda.current():
                cuda.free(address)
                cuda.free_host(host)
                cuda.destroy(stream)
        except BackendError as error:
            wrong.append(f"freeing from another thread: {error}")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    return {"wrong": wrong}
