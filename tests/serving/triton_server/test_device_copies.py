"""Sets in a GPU's memory between requests, with the CPU's memory in its place."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from helpers.fakes.triton import HALVES, INDICES, Server, Tensor

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device.driver_types import OutOfGpuMemory
from hsnet_trt.serving.triton_server.device_copies import DeviceCopies
from hsnet_trt.serving.triton_server.device_memory import CPU, CUDA, DeviceArray, _Managed
from hsnet_trt.serving.triton_server.networks import Networks, Shots

POINTER = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
TYPES = {**HALVES, "match": {**HALVES["match"], **INDICES}}


class Driver:
    """What of `driver.Cuda` is used."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.blocks: dict[int, Any] = {}
        self.most, self.uploads, self.current_in = most, 0, 0

    @contextmanager
    def current(self) -> Iterator[None]:
        self.current_in += 1
        yield
        self.current_in -= 1

    def allocate(self, size: int) -> int:
        if sum(map(len, self.blocks.values())) + size > self.most:
            raise OutOfGpuMemory("the GPU's memory does not suffice")
        block = ctypes.create_string_buffer(size)
        self.blocks[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, address: int) -> None:
        assert self.current_in
        del self.blocks[address]

    def upload(self, address: int, source: np.ndarray, stream: Any) -> None:
        self.uploads += 1
        ctypes.memmove(address, source.ctypes.data, source.nbytes)

    def stream(self) -> str:
        return "a stream"

    def synchronise(self, awaited: Any) -> None: ...

    def destroy(self, thing: Any) -> None: ...


class GpuTensor(Tensor):
    """Triton's, of a GPU's memory that a model was given."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (CPU, 0) if self.is_cpu() else (CUDA, 0)

    @classmethod
    def from_dlpack(cls, name: str, given: DeviceArray) -> GpuTensor:
        assert given.__dlpack_device__() == (CUDA, 0)
        capsule = given.__dlpack__(stream=1)
        tensor = _Managed.from_address(POINTER(capsule, b"dltensor")).tensor
        shape = tuple(tensor.shape[: tensor.ndim])
        kind = {(2, 16): np.float16, (0, 32): np.int32}[tensor.code, tensor.bits]
        size = int(np.prod(shape)) * tensor.bits // 8
        content = np.frombuffer(ctypes.string_at(tensor.data, size), kind).reshape(shape)
        found = cls(name, content, cpu=False)
        found.capsule = capsule  # as the backend keeps it until the tensor's end
        return found


class GpuServer(Server):
    Tensor = GpuTensor


@pytest.fixture(autouse=True)
def tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own answers are such tensors, too."""
    monkeypatch.setattr("helpers.fakes.triton.Tensor", GpuTensor)


def registered(networks: Networks) -> Shots:
    images, masks = np.zeros((3, 3, 8, 8), np.float32), np.ones((3, 8, 8), np.float32)
    return networks.arrange([asyncio.run(networks.encode(images, masks))[0]], most=2)


def matched(networks: Networks, supports: Shots) -> np.ndarray:
    async def answer() -> np.ndarray:
        features = await networks.features(np.zeros((1, 3, 8, 8), np.float32))
        return await networks.match(features, supports)

    return asyncio.run(answer())


def test_another_librarys_view_of_it_keeps_it_and_its_end_frees_it() -> None:
    """NumPy is the judge of what is in the capsule."""
    array, freed = np.arange(12, dtype=np.float16).reshape(3, 4), []
    held = DeviceArray(array.ctypes.data, (3, 4), np.float16, (CPU, 0), lambda: freed.append(1))
    view = np.from_dlpack(held)
    np.testing.assert_array_equal(view, array)
    assert view.ctypes.data == array.ctypes.data
    held.__dlpack__()  # nobody takes this one
    del held
    gc.collect()
    assert freed == []
    del view
    gc.collect()
    assert freed == [1]


def test_a_set_is_uploaded_once_and_goes_when_it_is_forgotten() -> None:
    driver, server = Driver(), GpuServer(TYPES, on_gpu=True)
    networks = Networks(server, "hsnet", 7, TYPES, copies=DeviceCopies(1 << 20, lambda: driver))
    supports = registered(networks)
    for _ in range(3):
        assert matched(networks, supports).shape == (3, 2, 2, 2)
    assert driver.uploads == 2 * 9  # two pieces of nine tensors
    calls = [given for name, _, given in server.calls if name == "hsnet_match"]
    assert len(calls) == 6
    for given, piece in zip(calls, supports.pieces * 3, strict=True):
        for name, array in piece.items():
            assert not given[name].is_cpu()
            np.testing.assert_array_equal(given[name].array, array)
    del given, piece, calls, array, supports
    server.calls.clear()
    gc.collect()
    assert driver.blocks == {}


def test_the_sets_that_were_used_last_stay_within_the_bound() -> None:
    driver, server = Driver(), GpuServer(TYPES, on_gpu=True)
    copies = DeviceCopies(1 << 20, lambda: driver)
    networks = Networks(server, "hsnet", 7, TYPES, copies=copies)
    sets = [registered(networks) for _ in range(3)]
    size = sum(array.nbytes for piece in sets[0].pieces for array in piece.values())
    copies._most = 2 * size
    for index in (0, 1, 0, 2):
        matched(networks, sets[index])
        server.calls.clear()
        gc.collect()
        assert sum(map(len, driver.blocks.values())) <= 2 * size
    assert driver.uploads == 3 * 18
    matched(networks, sets[0])
    assert driver.uploads == 3 * 18  # 1 was used before it, and went
    matched(networks, sets[1])
    assert driver.uploads == 4 * 18


@pytest.mark.parametrize("broken", ["driver", "memory", "tensor", "model", "device"])
def test_where_it_cannot_be_supports_go_with_the_request(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, server = Driver(0 if broken == "memory" else 1 << 30), GpuServer(TYPES, on_gpu=True)

    def opened() -> Any:
        if broken == "driver":
            raise BackendError("neither pycuda nor cuda-bindings is installed")
        return driver

    class Refusing(GpuTensor):
        @classmethod
        def from_dlpack(cls, name: str, given: DeviceArray) -> GpuTensor:
            if broken == "tensor":
                raise RuntimeError("no such device")
            return super().from_dlpack(name, given)

    server.Tensor = Refusing
    if broken == "device":
        monkeypatch.setattr(GpuTensor, "__dlpack_device__", lambda tensor: (CUDA, 1))
    if broken == "model":
        server.refuses = lambda given: "s2" in given and not given["s2"].is_cpu()
    networks = Networks(server, "hsnet", 7, TYPES, copies=DeviceCopies(1 << 20, opened))
    supports = registered(networks)
    for _ in range(2):
        assert matched(networks, supports).shape == (3, 2, 2, 2)
    given = server.calls[-1][2]
    assert given["s2"].is_cpu() and not given["f2"].is_cpu()
    server.calls.clear()
    del given
    gc.collect()
    assert driver.blocks == {}
    assert driver.uploads == (18 if broken in ("tensor", "model") else 0)


def test_a_set_that_is_too_large_goes_with_the_request_as_it_is() -> None:
    driver, server = Driver(), GpuServer(TYPES, on_gpu=True)
    networks = Networks(server, "hsnet", 7, TYPES, copies=DeviceCopies(8, lambda: driver))
    supports = registered(networks)
    for _ in range(2):
        matched(networks, supports)
    last = server.calls[-1][2]
    assert driver.uploads == 0
    assert all(last[name].array is array for name, array in supports.pieces[-1].items())


def test_nothing_is_copied_for_another_gpu_or_without_room() -> None:
    class Set: ...

    owner, pieces = Set(), [{"s2": np.zeros(8, np.float32)}]
    copies = DeviceCopies(64, Driver)
    assert copies.of(owner, pieces, 1) is None
    first = copies.of(owner, pieces, 0)
    assert first is not None and copies.of(owner, pieces, 0) is first
    assert DeviceCopies(0, Driver).of(owner, pieces, 0) is None
